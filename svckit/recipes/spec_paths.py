"""The fields of a spec, as dotted paths ("hyperparameters.lora_r").

Owns which paths there are, and what stands at each. Lists are one field: there
is no path into them. The names are the model's, so durations end in _seconds.
"""

import difflib
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from svckit.spec import JobSpec


class Kind(Enum):
    """What stands at a path."""

    PART = auto()
    """A mapping of fields."""
    LIST = auto()
    WHOLE_NUMBER = auto()
    NUMBER = auto()
    VALUE = auto()
    """A text, a choice, or true or false."""


def _fields(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Kind]]:
    for name, field in model.model_fields.items():
        path = f"{above}{name}"
        kinds = [one for one in _alternatives(field.annotation) if one is not type(None)]
        part = next((one for one in kinds if _is_part(one)), None)
        yield path, Kind.PART if part is not None else _kind(kinds)
        if part is not None:
            yield from _fields(part, f"{path}.")


def _alternatives(annotation: Any) -> list[Any]:
    """The types of "A | None", each without what Annotated adds to it."""
    if hasattr(annotation, "__metadata__"):
        return _alternatives(annotation.__origin__)
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple or not arguments:
        return [annotation]
    return [one for argument in arguments for one in _alternatives(argument)]


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(kinds: list[Any]) -> Kind:
    if any(get_origin(one) is tuple for one in kinds):
        return Kind.LIST
    if int in kinds:
        return Kind.WHOLE_NUMBER
    return Kind.NUMBER if float in kinds else Kind.VALUE


FIELDS: Mapping[str, Kind] = MappingProxyType(dict(_fields(JobSpec)))
"""Every path, and what stands there."""


def unknown_path(path: str) -> str:
    """What to tell about a path that does not exist: the one that was probably meant."""
    if "[" in path:
        return "leads into a list; name the whole list"
    last = {one.rpartition(".")[2]: one for one in FIELDS}
    close = difflib.get_close_matches(path, list(FIELDS), n=1)
    close += [last[one] for one in difflib.get_close_matches(path.rpartition(".")[2], last, n=1)]
    return (
        f"is no field of a spec; did you mean '{close[0]}'?" if close else "is no field of a spec"
    )


def covers(outer: str, inner: str) -> bool:
    """Whether `inner` is the field `outer`, or below it."""
    return inner == outer or inner.startswith(f"{outer}.")


def leaves(values: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """Each field that has a value, with its path; a list is one value."""
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def value_at(values: Mapping[str, Any], path: str) -> Any:
    """What stands at a path; None where nothing does."""
    found: Any = values
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def with_value(values: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with another value at a path."""
    name, _, below = path.partition(".")
    if not below:
        return {**values, name: value}
    inner = values.get(name)
    return {
        **values,
        name: with_value(inner if isinstance(inner, Mapping) else {}, below, value),
    }


def without(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A copy with nothing at a path."""
    name, _, below = path.partition(".")
    left = {key: value for key, value in values.items() if key != name}
    inner = values.get(name)
    if below and isinstance(inner, Mapping):
        left[name] = without(inner, below)
    return left


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields that `over` has; a list is replaced as a whole."""
    found = dict(base)
    for name, value in over.items():
        below = found.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            found[name] = merged(below, value)
        else:
            found[name] = value
    return found
