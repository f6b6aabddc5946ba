"""Reflection: what clients may ask of a running server, in both versions of the protocol."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as pb
from tunewright.v1 import fleet_service_pb2, fleet_service_pb2_grpc

from svckit.config import ServiceConfig, service_settings
from svckit.reflection import REFLECTION_SERVICES
from svckit.reflection.symbols import Symbols
from svckit.server import Registration, start_server
from tests.support import grpcurl

FLEET = fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"]


class ExampleConfig(ServiceConfig):
    model_config = service_settings("EXAMPLE")
    listen: str = "127.0.0.1:0"


@pytest.fixture
async def address() -> Any:
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    servicer = fleet_service_pb2_grpc.FleetServiceServicer()
    running = await start_server(ExampleConfig(), [Registration(FLEET, add, servicer)])
    try:
        yield running.address
    finally:
        await running.stop()


async def asked(
    address: str, *requests: pb.ServerReflectionRequest, service: str = REFLECTION_SERVICES[0]
) -> list[pb.ServerReflectionResponse]:
    """The answers of one stream. v1 and v1alpha are the same on the wire."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        return [answer async for answer in call(iter(requests))]


def files_in(answer: pb.ServerReflectionResponse) -> list[descriptor_pb2.FileDescriptorProto]:
    return [
        descriptor_pb2.FileDescriptorProto.FromString(content)
        for content in answer.file_descriptor_response.file_descriptor_proto
    ]


@pytest.mark.parametrize("service", REFLECTION_SERVICES)
async def test_both_versions_list_every_service(address: str, service: str) -> None:
    [answer] = await asked(address, pb.ServerReflectionRequest(list_services=""), service=service)

    assert [one.name for one in answer.list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "tunewright.v1.FleetService",
    ]


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("tunewright.v1.FleetService", "tunewright/v1/fleet_service.proto"),
        ("tunewright.v1.FleetService.GetTrainer", "tunewright/v1/fleet_service.proto"),
        (".tunewright.v1.GetTrainerRequest", "tunewright/v1/fleet_service.proto"),
        ("tunewright.v1.GetTrainerRequest.name", "tunewright/v1/fleet_service.proto"),
        ("tunewright.v1.TrainerState", "tunewright/v1/trainer.proto"),
        ("tunewright.v1.TrainerState.TRAINER_STATE_READY", "tunewright/v1/trainer.proto"),
        ("tunewright.v1.TRAINER_STATE_READY", "tunewright/v1/trainer.proto"),
        ("grpc.health.v1.Health.Watch", "grpc_health/v1/health.proto"),
        ("grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING", "grpc_health/v1/health.proto"),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("google.protobuf.Timestamp", "google/protobuf/timestamp.proto"),
        (
            "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
            "grpc/reflection/v1/reflection.proto",
        ),
        (
            "grpc.reflection.v1alpha.ErrorResponse",
            "grpc_reflection/v1alpha/reflection.proto",
        ),
    ],
)
@pytest.mark.parametrize("service", REFLECTION_SERVICES)
async def test_a_symbol_leads_to_its_file_and_all_its_imports(
    address: str, service: str, symbol: str, file: str
) -> None:
    [answer] = await asked(
        address, pb.ServerReflectionRequest(file_containing_symbol=symbol), service=service
    )

    found = files_in(answer)
    assert found[0].name == file
    imported = {dependency for one in found for dependency in one.dependency}
    assert imported <= {one.name for one in found}
    pool = descriptor_pool.DescriptorPool()
    for one in reversed(found):
        pool.Add(one)  # type: ignore[attr-defined] # missing in the stubs
    assert pool.FindFileByName(file).name == file


async def test_a_file_is_found_by_its_name(address: str) -> None:
    name = "tunewright/v1/trainer.proto"

    [answer] = await asked(address, pb.ServerReflectionRequest(file_by_filename=name))

    assert files_in(answer)[0].name == name


@pytest.mark.parametrize(
    "request_",
    [
        pb.ServerReflectionRequest(file_containing_symbol="tunewright.v1.FleetService.Nope"),
        # Declared in this process, and not served here.
        pb.ServerReflectionRequest(file_containing_symbol="tunewright.v1.JobService"),
        pb.ServerReflectionRequest(file_containing_symbol=""),
        pb.ServerReflectionRequest(file_containing_symbol="x" * 100_000),
        pb.ServerReflectionRequest(file_by_filename="/etc/passwd"),
        pb.ServerReflectionRequest(all_extension_numbers_of_type="no.Such"),
        pb.ServerReflectionRequest(
            file_containing_extension=pb.ExtensionRequest(
                containing_type="tunewright.v1.Trainer", extension_number=-1
            )
        ),
    ],
)
async def test_what_is_not_there_is_an_error_and_the_stream_continues(
    address: str, request_: pb.ServerReflectionRequest
) -> None:
    request_.host = "example"

    refused, listed = await asked(address, request_, pb.ServerReflectionRequest(list_services=""))

    assert refused.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert refused.original_request == request_
    assert refused.valid_host == "example"
    assert listed.list_services_response.service


async def test_a_request_for_nothing_is_invalid(address: str) -> None:
    [answer] = await asked(address, pb.ServerReflectionRequest())

    assert answer.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def file_with_extension() -> FileDescriptor:
    """proto2: message base { extensions 100 to 200 }, extended with field 123 in another file."""
    pool = descriptor_pool.DescriptorPool()
    base = descriptor_pb2.FileDescriptorProto(name="base.proto", package="x", syntax="proto2")
    base.message_type.add(name="Base").extension_range.add(start=100, end=200)
    pool.AddSerializedFile(base.SerializeToString())
    more = descriptor_pb2.FileDescriptorProto(
        name="more.proto", package="x", syntax="proto2", dependency=["base.proto"]
    )
    around = more.message_type.add(name="Around")
    for target, name, number in ((more, "outer", 123), (around, "inner", 101)):
        target.extension.add(
            name=name, number=number, extendee=".x.Base", label="LABEL_OPTIONAL", type="TYPE_STRING"
        )
    pool.AddSerializedFile(more.SerializeToString())
    return pool.FindFileByName("more.proto")


def test_extensions_are_found_by_message_and_number() -> None:
    symbols = Symbols([file_with_extension()])

    extending, declaring = symbols.file_extending(".x.Base", 123), symbols.file_declaring("x.outer")

    assert symbols.extension_numbers("x.Base") == [101, 123]
    assert symbols.extension_numbers("x.Around") == []
    assert symbols.extension_numbers("x.None") is None
    assert extending is not None
    assert extending.name == "more.proto"
    assert declaring is extending
    assert symbols.file_declaring("x.Around.inner") is extending
    assert symbols.file_extending("x.Base", 124) is None


@pytest.mark.parametrize(
    ("symbol", "printed"),
    [
        ("tunewright.v1.FleetService", "service FleetService {"),
        ("tunewright.v1.FleetService.GetTrainer", "is a method:"),
        ("tunewright.v1.Trainer", "message Trainer {"),
        ("tunewright.v1.Trainer.gpus", "repeated .tunewright.v1.Gpu gpus"),
        ("tunewright.v1.TrainerState", "enum TrainerState {"),
        ("tunewright.v1.TrainerState.TRAINER_STATE_READY", "TRAINER_STATE_READY = "),
        ("grpc.health.v1.Health.Check", "is a method:"),
    ],
)
async def test_grpcurl_describes_each_kind_of_symbol(
    address: str, symbol: str, printed: str
) -> None:
    done = await asyncio.to_thread(grpcurl.ask, address, "describe", symbol)

    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
