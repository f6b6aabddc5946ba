"""Everything that a set of proto files declares, by its full name. Pure.

grpcio's own reflection asks the descriptor pool, which finds neither methods
nor enum values under their enum's name. This index has every name that a
client may write: services, methods, messages, fields, oneofs, enums, enum
values and extensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
)


class Symbols:
    """The declarations of some files and of all that they import."""

    def __init__(self, files: Iterable[FileDescriptor]) -> None:
        self._files: dict[str, FileDescriptor] = {}
        for file in files:
            self._files |= {one.name: one for one in with_imports(file)}

    def file_named(self, name: str) -> FileDescriptor | None:
        """The file of that path, as in "tunewright/v1/job.proto"."""
        return self._files.get(name)

    def file_declaring(self, symbol: str) -> FileDescriptor | None:
        """The file that declares a full name; a leading dot, as protos write it, is allowed."""
        return self._declared.get(symbol.removeprefix("."))

    def file_extending(self, message: str, number: int) -> FileDescriptor | None:
        """The file that declares the extension of a message with that field number."""
        return self._extended.get((message.removeprefix("."), number))

    def extension_numbers(self, message: str) -> list[int] | None:
        """Field numbers of a message's extensions; None if there is no such message."""
        name = message.removeprefix(".")
        if name not in self._messages:
            return None
        return sorted(number for extended, number in self._extended if extended == name)

    @cached_property
    def _declared(self) -> dict[str, FileDescriptor]:
        return {name: file for file in self._files.values() for name in _names_in_file(file)}

    @cached_property
    def _messages(self) -> set[str]:
        return {
            message.full_name
            for file in self._files.values()
            for top in file.message_types_by_name.values()
            for message in _with_nested(top)
        }

    @cached_property
    def _extended(self) -> dict[tuple[str, int], FileDescriptor]:
        return {
            (extension.containing_type.full_name, extension.number): file
            for file in self._files.values()
            for extension in _extensions_in_file(file)
            if extension.containing_type is not None  # it never is, of an extension
        }


def with_imports(file: FileDescriptor) -> list[FileDescriptor]:
    """The file first, then everything that it imports, directly or not; each once."""
    found: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        one = waiting.pop(0)
        if one.name not in found:
            found[one.name] = one
            waiting.extend(one.dependencies)
    return list(found.values())


def serialized(file: FileDescriptor) -> bytes:
    """The file's FileDescriptorProto."""
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    return proto.SerializeToString()


def _names_in_file(file: FileDescriptor) -> Iterator[str]:
    for message in file.message_types_by_name.values():
        yield from _names_in_message(message)
    for enum in file.enum_types_by_name.values():
        yield from _names_in_enum(enum)
    for service in file.services_by_name.values():
        yield service.full_name
        yield from (method.full_name for method in service.methods)
    yield from (one.full_name for one in file.extensions_by_name.values())


def _names_in_message(message: Descriptor) -> Iterator[str]:
    for one in _with_nested(message):
        yield one.full_name
        yield from (field.full_name for field in one.fields)
        yield from (oneof.full_name for oneof in one.oneofs)
        yield from (extension.full_name for extension in one.extensions)
        for enum in one.enum_types:
            yield from _names_in_enum(enum)


def _names_in_enum(enum: EnumDescriptor) -> Iterator[str]:
    """Values under both names: protobuf puts them beside their enum, people and tools below it."""
    yield enum.full_name
    around = enum.full_name.rpartition(".")[0]
    for value in enum.values:
        yield f"{enum.full_name}.{value.name}"
        yield f"{around}.{value.name}" if around else value.name


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for nested in message.nested_types:
        yield from _with_nested(nested)


def _extensions_in_file(file: FileDescriptor) -> Iterator[FieldDescriptor]:
    yield from file.extensions_by_name.values()
    for top in file.message_types_by_name.values():
        for message in _with_nested(top):
            yield from message.extensions
