"""Python values into protobuf fields, by descriptor.

Judges only what cannot be put into a message: an unknown name, a value of the
wrong type. Whether a value makes sense is the service's to say. Problems are
collected, so that a caller learns all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from tunewright.errors import Violation, invalid_request
from tunewright.wire.meant import did_you_mean
from tunewright.wire.times import duration

_WHOLE_NUMBERS = {
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_UINT64,
}
_NUMBERS = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass
class Problems:
    """What could not be put into a request so far."""

    found: list[Violation] = field(default_factory=list)

    def add(self, path: str, description: str) -> None:
        """Notes one bad field."""
        self.found.append(Violation(path, description))

    def raise_if_any(self) -> None:
        """Raises InvalidRequest with all of them."""
        if self.found:
            raise invalid_request(self.found)


def fill(message: Message, values: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Puts each value into the field of its name; None leaves the field absent."""
    fields = message.DESCRIPTOR.fields_by_name
    for name, value in values.items():
        if name not in fields:
            problems.add(f"{path}.{name}", unknown_name(name, fields))
        elif value is not None:
            put(message, fields[name], value, f"{path}.{name}", problems)


def put(message: Message, to: Any, value: Any, path: str, problems: Problems) -> None:
    """Puts one value into one field."""
    try:
        if to.is_repeated:
            _put_many(message, to, value)
        elif to.type == FieldDescriptor.TYPE_MESSAGE:
            _put_message(getattr(message, to.name), value, path, problems)
        elif to.type == FieldDescriptor.TYPE_ENUM:
            setattr(message, to.name, enum_number(to.enum_type, value))
        else:
            setattr(message, to.name, _scalar(to, value))
    except _Misfit as misfit:
        problems.add(path, str(misfit))
    except (TypeError, ValueError):
        problems.add(path, f"expected {_expected(to)}, got {_shown(value)}")


def from_text(to: FieldDescriptor, text: str) -> Any:
    """The value that a text means for a field; the text itself if it means none there."""
    if to.is_repeated:
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        if to.type in _WHOLE_NUMBERS:
            return int(text)
        if to.type in _NUMBERS:
            return float(text)
    except ValueError:
        return text
    if to.type == FieldDescriptor.TYPE_BOOL and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    return text


def unknown_name(name: str, known: Iterable[str]) -> str:
    """What to tell about a name that does not exist: the one that was probably meant."""
    meant = did_you_mean(name, known)
    return f"no such field; did you mean {meant!r}?" if meant else "no such field"


def enum_number(kind: EnumDescriptor, value: Any) -> int:
    """The number of an enum value by full name, by short name ("cpu"), or as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    prefix = enum_prefix(kind)
    if isinstance(value, str):
        wanted = value.upper().replace("-", "_")
        found = kind.values_by_name.get(wanted) or kind.values_by_name.get(prefix + wanted)
        if found is not None:
            return int(found.number)
    raise _Misfit(f"expected {' or '.join(enum_choices(kind))}, got {_shown(value)}")


def enum_short_name(kind: EnumDescriptor, number: int) -> str:
    """The name of an enum number without its prefix ("RUNNING"); digits for a newer one."""
    known = kind.values_by_number.get(number)
    return known.name.removeprefix(enum_prefix(kind)) if known else str(number)


def enum_choices(kind: EnumDescriptor) -> list[str]:
    """The short names that may be given, in lower case."""
    return [repr(one.name.removeprefix(enum_prefix(kind)).lower()) for one in kind.values[1:]]


def enum_prefix(kind: EnumDescriptor) -> str:
    """What all value names of an enum begin with: its zero value, less UNSPECIFIED."""
    return str(kind.values[0].name).removesuffix("UNSPECIFIED")


class _Misfit(ValueError):
    """A value that does not fit, in words for the caller."""


def _put_many(message: Message, to: FieldDescriptor, value: Any) -> None:
    target = getattr(message, to.name)
    if _is_map(to.message_type):
        for key, one in dict(value).items():
            target[key] = one
        return
    if isinstance(value, Mapping):
        raise TypeError
    target.extend([value] if isinstance(value, str) else [str(one) for one in value])


def _put_message(target: Message, value: Any, path: str, problems: Problems) -> None:
    if isinstance(target, Duration):
        target.CopyFrom(_duration(value))
    elif isinstance(value, Mapping):
        target.SetInParent()
        fill(target, value, path, problems)
    elif isinstance(value, type(target)):
        target.CopyFrom(value)
    else:
        raise TypeError


def _duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, timedelta):
        return duration(value.total_seconds())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return duration(value)
    raise TypeError


def _scalar(to: FieldDescriptor, value: Any) -> Any:
    # protobuf takes True for 1.0 and 1 for True; both are slips of the pen.
    if isinstance(value, bool) != (to.type == FieldDescriptor.TYPE_BOOL):
        raise TypeError
    if to.type in _WHOLE_NUMBERS and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _is_map(kind: Descriptor | None) -> bool:
    return kind is not None and bool(kind.GetOptions().map_entry)


def _expected(to: Any) -> str:
    if to.is_repeated:
        return "text by text" if _is_map(to.message_type) else "a list of texts"
    if to.type == FieldDescriptor.TYPE_MESSAGE:
        duration_wanted = to.message_type.full_name == Duration.DESCRIPTOR.full_name
        return "seconds or a timedelta" if duration_wanted else "a mapping"
    if to.type in _WHOLE_NUMBERS:
        return "a whole number"
    if to.type in _NUMBERS:
        return "a number"
    return "true or false" if to.type == FieldDescriptor.TYPE_BOOL else "text"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
