"""The job spec to and from its message on the wire.

Refuses fields that this version does not know: a hyperparameter that is
silently left out trains something else than what was asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from pydantic import ValidationError
from tunewright.v1 import spec_pb2

from svckit.refusal import Violation
from svckit.spec.invalid import InvalidSpec, violations_of
from svckit.spec.model import JobSpec

_SECONDS = "_seconds"
_NANOS_PER_SECOND = 1_000_000_000


def spec_from_proto(message: spec_pb2.JobSpec, prefix: str = "job.spec") -> JobSpec:
    """The checked spec with every default filled in.

    Raises InvalidSpec with every bad field, each path below `prefix`.
    """
    violations: list[Violation] = []
    mapping = _mapping(message, prefix, violations)
    return spec_from_values(mapping, prefix, violations)


def values_from_proto(
    message: spec_pb2.JobSpec, violations: list[Violation], prefix: str = "job.spec"
) -> dict[str, object]:
    """What the caller has set, unchecked, under the model's names.

    Fields that this version does not know are added to `violations`.
    """
    return _mapping(message, prefix, violations)


def spec_from_values(
    values: Mapping[str, object], prefix: str, noted: Sequence[Violation] = ()
) -> JobSpec:
    """The checked spec of values as a caller has set them.

    Raises InvalidSpec with what was noted before and every bad field.
    """
    violations = list(noted)
    try:
        spec = JobSpec.model_validate(values)
    except ValidationError as error:
        found = violations_of(error, JobSpec, prefix)
        violations += [Violation(proto_path(one.field), one.description) for one in found]
        raise InvalidSpec.of(violations) from None
    if violations:
        raise InvalidSpec.of(violations)
    return spec


def spec_to_proto(spec: JobSpec) -> spec_pb2.JobSpec:
    """The message, with every known value written out."""
    return values_to_proto(spec.model_dump())


def values_to_proto(values: Mapping[str, Any]) -> spec_pb2.JobSpec:
    """The message with these values of a spec, which need not be whole."""
    message = spec_pb2.JobSpec()
    _fill(message, values)
    return message


def proto_path(path: str) -> str:
    """A field's path as it is on the wire: durations carry their unit only in the model."""
    for name in ("run_timeout", "backoff"):
        if path.endswith(f".{name}{_SECONDS}") or path == f"{name}{_SECONDS}":
            return path.removesuffix(_SECONDS)
    return path


def _mapping(message: Message, path: str, violations: list[Violation]) -> dict[str, object]:
    """What the caller has set. Absent fields stay absent: they have defaults."""
    violations += [Violation(path, text) for text in _unknown(message)]
    found: dict[str, object] = {}
    for field, value in message.ListFields():
        _take(found, field, value, f"{path}.{field.name}", violations)
    return found


def _unknown(message: Message) -> Iterator[str]:
    fields = UnknownFieldSet(message)
    for index in range(len(fields)):
        yield (
            f"has a field with the number {fields[index].field_number}, which this scheduler "
            "does not know; it may be older than the client"
        )


def _take(
    found: dict[str, object],
    field: FieldDescriptor,
    value: Any,
    path: str,
    violations: list[Violation],
) -> None:
    if field.message_type is None:
        found[field.name] = _scalar(field, value)
    elif field.message_type.full_name == Duration.DESCRIPTOR.full_name:
        _mapping(value, path, violations)  # only for what is unknown in it
        found[field.name + _SECONDS] = value.seconds + value.nanos / _NANOS_PER_SECOND
    elif field.message_type.GetOptions().map_entry:
        found[field.name] = dict(value)
    elif field.is_repeated:
        found[field.name] = [
            _mapping(item, f"{path}[{index}]", violations) for index, item in enumerate(value)
        ]
    else:
        found[field.name] = _mapping(value, path, violations)


def _scalar(field: FieldDescriptor, value: Any) -> object:
    if field.is_repeated:
        return list(value)
    if field.enum_type is None:
        return value
    known = field.enum_type.values_by_number.get(value)
    return value if known is None else known.name


def _fill(message: Any, values: Mapping[str, Any]) -> None:
    for field, value in _present(message, values):
        target = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                target.extend(value)
            else:
                setattr(message, field.name, value)
        elif field.message_type.GetOptions().map_entry:
            target.update(value)
        elif isinstance(target, Duration):
            target.FromNanoseconds(round(value * _NANOS_PER_SECOND))
        elif field.is_repeated:
            for item in value:
                _fill(target.add(), item)
        else:
            target.SetInParent()
            _fill(target, value)


def _present(message: Message, values: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.name, values.get(field.name + _SECONDS))
        if value is not None:
            yield field, value
