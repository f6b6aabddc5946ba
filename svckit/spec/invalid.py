"""What is wrong with a spec, field by field, in sentences.

Owns the one translation from pydantic's errors to violations. Paths are proto
paths ("job.spec.train_data[0].source").
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from tunewright.wire.meant import did_you_mean

from svckit.refusal import InvalidRequest, Violation

_SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is required",
        "greater_than": "must be greater than {gt}; got {input}",
        "greater_than_equal": "must be at least {ge}; got {input}",
        "less_than": "must be less than {lt}; got {input}",
        "less_than_equal": "must be at most {le}; got {input}",
        "finite_number": "must be a finite number; got {input}",
        "literal_error": "must be one of {expected}; got {input}",
        "string_too_long": "must be at most {max_length} characters long",
        "string_too_short": "must not be empty",
        "too_long": "must have at most {max_length} items; got {actual_length}",
        "too_short": "needs at least one item",
        "model_type": "must be a mapping of field names to values",
        "string_type": "must be text; got {input}",
        "tuple_type": "must be a list; got {input}",
        "int_from_float": "must be a whole number; got {input}",
        "int_type": "must be a whole number; got {input}",
        "int_parsing": "must be a whole number; got {input}",
        "float_type": "must be a number; got {input}",
        "float_parsing": "must be a number; got {input}",
        "bool_type": "must be true or false; got {input}",
        "bool_parsing": "must be true or false; got {input}",
    }
)


class InvalidSpec(InvalidRequest):
    """A spec that cannot be trained as it is written: INVALID_ARGUMENT."""


def violations_of(
    error: ValidationError, model: type[BaseModel], prefix: str
) -> tuple[Violation, ...]:
    """One violation per error, in the order of the fields."""
    details = error.errors(include_url=False)
    return tuple(
        Violation(path_of(prefix, detail["loc"]), _sentence(detail, model))
        for detail in details
        if not _follows_from_another(detail, details)
    )


def path_of(prefix: str, location: Iterable[int | str]) -> str:
    """ "spec.train_data[0].source" of ("train_data", 0, "source")."""
    path = prefix
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _follows_from_another(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """A list whose items are bad is not "too short" for the caller."""
    depth = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == detail["loc"] for other in details
    )


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown_field(detail["loc"], model)
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    template = _SENTENCES.get(detail["type"])
    if template is None:
        return detail["msg"]
    shown = f"{detail['input']!r:.80}"
    return template.format_map({**detail.get("ctx", {}), "input": shown})


def _unknown_field(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    owner = _model_at(location[:-1], model)
    meant = did_you_mean(str(location[-1]), owner.model_fields)
    return f"unknown field; did you mean {meant!r}?" if meant else "unknown field"


def _model_at(location: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel]:
    """The part of the spec that a path leads to."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = (annotation, *get_args(annotation))
            parts = [kind for kind in inner if isinstance(kind, type)]
            model = next((kind for kind in parts if issubclass(kind, BaseModel)), model)
    return model
