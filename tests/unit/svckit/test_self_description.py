"""What a service says of itself with every answer, and the health check that asks if it serves."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tunewright.v1 import feed_pb2, feed_pb2_grpc, fleet_service_pb2, fleet_service_pb2_grpc
from tunewright.v1.trainer_pb2 import Trainer
from tunewright.wire.answers import answered_by
from tunewright.wire.status import rich_error

from svckit.channel import open_channel
from svckit.config import ServiceConfig, service_settings
from svckit.refusal import DatabaseBusy
from svckit.server import Registration, RunningServer, start_server


class ExampleConfig(ServiceConfig):
    model_config = service_settings("EXAMPLE")
    listen: str = "127.0.0.1:0"


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    async def GetTrainer(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        if request.name == "busy":
            raise DatabaseBusy("locked", retry_delay_seconds=1.5)
        return Trainer(name=request.name)


class Feed(feed_pb2_grpc.FeedServiceServicer):
    async def StreamFeed(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        yield feed_pb2.FeedBatch(end=True)


REGISTRATIONS = [
    Registration(
        fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"],
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server,
        Fleet(),
    ),
    Registration(
        feed_pb2.DESCRIPTOR.services_by_name["FeedService"],
        feed_pb2_grpc.add_FeedServiceServicer_to_server,
        Feed(),
    ),
]


@pytest.fixture
async def running() -> AsyncIterator[RunningServer]:
    server = await start_server(ExampleConfig(), REGISTRATIONS)
    yield server
    await server.stop()


def is_about_this_server(trailing: Any) -> bool:
    told, clock = answered_by(trailing)
    return told == version("tunewright-server") and abs(time.time() - (clock or 0)) < 60


async def test_an_answer_tells_version_and_time(running: RunningServer) -> None:
    async with open_channel(running.address) as channel:
        call = fleet_service_pb2_grpc.FleetServiceStub(channel).GetTrainer(
            fleet_service_pb2.GetTrainerRequest(name="a")
        )
        await call
        stream = feed_pb2_grpc.FeedServiceStub(channel).StreamFeed(feed_pb2.StreamFeedRequest())
        batches = [batch async for batch in stream]

        assert is_about_this_server(await call.trailing_metadata())
        assert is_about_this_server(await stream.trailing_metadata())
        assert len(batches) == 1


async def test_a_refusal_tells_both_beside_its_reason(running: RunningServer) -> None:
    async with open_channel(running.address) as channel:
        stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetTrainer(fleet_service_pb2.GetTrainerRequest(name="busy"))

    assert rich_error(caught.value).retry_delay_seconds == 1.5
    assert is_about_this_server(caught.value.trailing_metadata())


async def test_who_shows_no_token_learns_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("s3cret\n")
    server = await start_server(ExampleConfig(token_file=tmp_path / "tokens"), REGISTRATIONS)
    try:
        async with open_channel(server.address) as channel:
            stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetTrainer(fleet_service_pb2.GetTrainerRequest(name="a"))
            health: Any = health_pb2_grpc.HealthStub(channel)
            probe = health.Check(health_pb2.HealthCheckRequest())
            await probe
            probed = await probe.trailing_metadata()
    finally:
        await server.stop()

    assert rich_error(caught.value).code == "UNAUTHENTICATED"
    assert answered_by(caught.value.trailing_metadata()) == ("", None)
    assert answered_by(probed) == ("", None)


def test_what_another_server_sends_is_no_error() -> None:
    assert answered_by(None) == ("", None)
    assert answered_by([("tunewright-version", "1"), ("tunewright-time", "soon")]) == ("1", None)


async def healthcheck(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "svckit.healthcheck", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_the_health_check_follows_what_the_service_says(running: RunningServer) -> None:
    before = await healthcheck(running.address)
    await running.set_serving(True)
    after = await healthcheck(running.address)

    assert before == (1, f"{running.address}: NOT_SERVING\n")
    assert after == (0, "")


async def test_the_health_check_of_nothing_is_one_line() -> None:
    code, said = await healthcheck("127.0.0.1:1")

    assert code == 1
    assert said == "cannot reach 127.0.0.1:1: Connection refused\n"
