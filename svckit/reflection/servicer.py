"""Server reflection, version v1 and its forerunner v1alpha.

grpcio-reflection serves v1alpha only. Both versions are one protocol under two
package names (grpc/doc/server-reflection.md), so v1 is derived here from the
installed v1alpha: the same messages, the package renamed. Each request is
answered on its own; what cannot be found is an error in the answer, and never
ends the stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from svckit.reflection.symbols import Symbols, serialized, with_imports

_METHOD = "ServerReflectionInfo"
_V1ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
REFLECTION_SERVICES = (f"{_V1}.ServerReflection", f"{_V1ALPHA}.ServerReflection")

# What arrives packed in an error's details; no served file imports it.
_ERROR_FILES = (status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)


def add_reflection(server: grpc.aio.Server, services: Iterable[ServiceDescriptor]) -> None:
    """Lets the server describe these services, and reflection itself."""
    described = list(services)
    answers = Reflection(
        [*(service.full_name for service in described), *REFLECTION_SERVICES],
        Symbols(
            [
                *(service.file for service in described),
                *_ERROR_FILES,
                pb.DESCRIPTOR,  # type: ignore[list-item] # upb's name for the same type
                _v1_file(),
            ]
        ),
    )
    handler = grpc.stream_stream_rpc_method_handler(
        answers.stream,
        request_deserializer=pb.ServerReflectionRequest.FromString,
        response_serializer=pb.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(name, {_METHOD: handler})
            for name in REFLECTION_SERVICES
        ]
    )


class Reflection:
    """Answers what clients ask about the contract."""

    def __init__(self, services: Iterable[str], symbols: Symbols) -> None:
        self._services = sorted(services)
        self._symbols = symbols
        self._answers: Mapping[str, Callable[[Any], pb.ServerReflectionResponse]] = {
            "file_by_filename": lambda name: _files(symbols.file_named(name)),
            "file_containing_symbol": lambda name: _files(symbols.file_declaring(name)),
            "file_containing_extension": lambda asked: _files(
                symbols.file_extending(asked.containing_type, asked.extension_number)
            ),
            "all_extension_numbers_of_type": self._extension_numbers,
            "list_services": self._list,
        }

    async def stream(
        self, requests: AsyncIterator[pb.ServerReflectionRequest], context: Any
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        """One answer for each request, in order."""
        async for request in requests:
            yield self.answer(request)

    def answer(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        """What one request asks for, or an error in its place."""
        kind = request.WhichOneof("message_request")
        if kind is None:
            response = _error(grpc.StatusCode.INVALID_ARGUMENT, "the request asks for nothing")
        else:
            response = self._answers[kind](getattr(request, kind))
        response.valid_host = request.host
        response.original_request.CopyFrom(request)
        return response

    def _list(self, _asked: str) -> pb.ServerReflectionResponse:
        listed = pb.ListServiceResponse(
            service=[pb.ServiceResponse(name=name) for name in self._services]
        )
        return pb.ServerReflectionResponse(list_services_response=listed)

    def _extension_numbers(self, message: str) -> pb.ServerReflectionResponse:
        numbers = self._symbols.extension_numbers(message)
        if numbers is None:
            return _not_found()
        found = pb.ExtensionNumberResponse(
            base_type_name=message.removeprefix("."), extension_number=numbers
        )
        return pb.ServerReflectionResponse(all_extension_numbers_response=found)


def _files(file: FileDescriptor | None) -> pb.ServerReflectionResponse:
    """The file and its imports: a client need not ask for each of them."""
    if file is None:
        return _not_found()
    content = [serialized(one) for one in with_imports(file)]
    return pb.ServerReflectionResponse(
        file_descriptor_response=pb.FileDescriptorResponse(file_descriptor_proto=content)
    )


def _not_found() -> pb.ServerReflectionResponse:
    return _error(grpc.StatusCode.NOT_FOUND, "not found")


def _error(code: grpc.StatusCode, message: str) -> pb.ServerReflectionResponse:
    number, _ = code.value
    return pb.ServerReflectionResponse(
        error_response=pb.ErrorResponse(error_code=number, error_message=message)
    )


def _v1_file() -> FileDescriptor:
    """grpc/reflection/v1/reflection.proto: v1alpha's file with the package renamed.

    In a pool of its own, so that it cannot clash with a copy that another library brings.
    """
    proto = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(proto)
    proto.name, proto.package = "grpc/reflection/v1/reflection.proto", _V1
    proto.ClearField("options")  # v1alpha's say that it is deprecated
    for message in proto.message_type:
        for field in message.field:
            if field.type_name:  # setting it, even to "", would make a scalar a message
                field.type_name = _renamed(field.type_name)
    for method in proto.service[0].method:
        method.input_type, method.output_type = map(
            _renamed, (method.input_type, method.output_type)
        )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(proto.SerializeToString())
    return pool.FindFileByName(proto.name)


def _renamed(type_name: str) -> str:
    return type_name.replace(f".{_V1ALPHA}.", f".{_V1}.")
