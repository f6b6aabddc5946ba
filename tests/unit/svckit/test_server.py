"""A service's server: errors as status, tokens, health, reflection, limits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tunewright.v1 import feed_pb2, feed_pb2_grpc, fleet_service_pb2, fleet_service_pb2_grpc
from tunewright.v1.trainer_pb2 import Trainer
from tunewright.wire.status import RichError, rich_error

from svckit.channel import ChannelSecurity, open_channel
from svckit.config import ServiceConfig, service_settings
from svckit.refusal import DatabaseBusy, InvalidRequest, Violation
from svckit.server import Registration, RunningServer, announce_ready, start_server


class ExampleConfig(ServiceConfig):
    model_config = service_settings("EXAMPLE")
    listen: str = "127.0.0.1:0"


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Refuses in each way there is."""

    async def GetTrainer(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        if request.name == "busy":
            raise DatabaseBusy("locked", retry_delay_seconds=1.5)
        if request.name == "broken":
            raise RuntimeError("the secret is 42")
        if request.name.startswith("bad"):
            count = int(request.name[3:])
            raise InvalidRequest.of([Violation(f"f{n}", "x" * 400) for n in range(count)])
        return Trainer(name=request.name)


class Feed(feed_pb2_grpc.FeedServiceServicer):
    """Sends one batch, then refuses."""

    async def StreamFeed(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        yield feed_pb2.FeedBatch(end=True)
        raise InvalidRequest.of([Violation("cursors", "bad")])


@asynccontextmanager
async def serving(config: ServiceConfig) -> AsyncIterator[RunningServer]:
    running = await start_server(
        config,
        [
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
        ],
    )
    try:
        yield running
    finally:
        await running.stop()


async def refused(channel: grpc.aio.Channel, name: str) -> RichError:
    stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        await stub.GetTrainer(fleet_service_pb2.GetTrainerRequest(name=name))
    return rich_error(caught.value)


async def test_a_refusal_arrives_with_reason_and_violations() -> None:
    async with serving(ExampleConfig()) as running, open_channel(running.address) as channel:
        error = await refused(channel, "bad2")

    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [violation.field for violation in error.violations] == ["f0", "f1"]
    assert error.message.startswith("f0: ")


async def test_many_violations_are_cut_with_a_count_of_the_rest() -> None:
    async with serving(ExampleConfig()) as running, open_channel(running.address) as channel:
        error = await refused(channel, "bad100")

    shown = len(error.violations) - 1
    assert 5 < shown < 20
    assert error.violations[-1].description == f"and {100 - shown} more"


async def test_a_retry_delay_arrives() -> None:
    async with serving(ExampleConfig()) as running, open_channel(running.address) as channel:
        error = await refused(channel, "busy")

    assert (error.code, error.retry_delay_seconds) == ("UNAVAILABLE", 1.5)


async def test_an_unforeseen_error_tells_its_type_and_nothing_else() -> None:
    async with serving(ExampleConfig()) as running, open_channel(running.address) as channel:
        error = await refused(channel, "broken")

    assert (error.code, error.reason) == ("INTERNAL", "INTERNAL")
    assert "RuntimeError" in error.message
    assert "42" not in error.message


async def test_a_stream_ends_with_its_refusal() -> None:
    async with serving(ExampleConfig()) as running, open_channel(running.address) as channel:
        call = feed_pb2_grpc.FeedServiceStub(channel).StreamFeed(feed_pb2.StreamFeedRequest())
        batches = []
        with pytest.raises(grpc.RpcError) as caught:
            async for batch in call:
                batches.append(batch)

    assert len(batches) == 1
    assert rich_error(caught.value).reason == "INVALID_REQUEST"


async def test_an_oversized_message_is_refused_and_the_connection_lives() -> None:
    async with serving(ExampleConfig()) as running:
        unlimited = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(running.address, options=unlimited) as channel:
            error = await refused(channel, "x" * (4 * 1024 * 1024 + 1))
            stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
            answer = await stub.GetTrainer(fleet_service_pb2.GetTrainerRequest(name="small"))

    assert error.code == "RESOURCE_EXHAUSTED"
    assert answer.name == "small"


async def test_only_a_known_token_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# ours\nada:s3cret\ngrace:0ther\n")
    (tmp_path / "mine").write_text("0ther\n")
    (tmp_path / "wrong").write_text("s3cre\n")
    config = ExampleConfig(token_file=tmp_path / "tokens")
    request = fleet_service_pb2.GetTrainerRequest(name="a")

    async with serving(config) as running:
        async with open_channel(running.address) as channel:
            without = await refused(channel, "a")
        wrong_token = ChannelSecurity(token_file=tmp_path / "wrong")
        async with open_channel(running.address, wrong_token) as channel:
            wrong = await refused(channel, "a")
        async with open_channel(
            running.address, ChannelSecurity(token_file=tmp_path / "mine")
        ) as channel:
            answer = await fleet_service_pb2_grpc.FleetServiceStub(channel).GetTrainer(request)
            stream = feed_pb2_grpc.FeedServiceStub(channel).StreamFeed(feed_pb2.StreamFeedRequest())
            first = await stream.read()

    assert without.code == wrong.code == "UNAUTHENTICATED"
    assert answer.name == "a"
    assert isinstance(first, feed_pb2.FeedBatch)


@pytest.mark.parametrize(
    ("content", "why"),
    [("ada:s3cret\npeople:\n", "the token in line 2 of"), ("# nobody\n", "no token in")],
)
async def test_a_token_file_that_would_let_everybody_or_nobody_in_ends_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, why: str
) -> None:
    (tmp_path / "tokens").write_text(content)

    with pytest.raises(SystemExit) as ended:
        async with serving(ExampleConfig(token_file=tmp_path / "tokens")):
            pass

    assert ended.value.code == 2
    assert f"configuration error: token_file: {why}" in capsys.readouterr().err


async def test_health_follows_and_needs_no_token(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("s3cret\n")
    request = health_pb2.HealthCheckRequest(service="tunewright.v1.FleetService")
    kinds = health_pb2.HealthCheckResponse

    async with serving(ExampleConfig(token_file=tmp_path / "tokens")) as running:
        async with open_channel(running.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            before = (await health.Check(request)).status
            await running.set_serving(True)
            after = (await health.Check(request)).status

    assert (before, after) == (kinds.NOT_SERVING, kinds.SERVING)


async def test_reflection_lists_the_services() -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    async with serving(ExampleConfig()) as running, open_channel(running.address) as channel:
        untyped: Any = reflection_pb2_grpc
        stub = untyped.ServerReflectionStub(channel)
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]

    names = {service.name for service in answers[0].list_services_response.service}
    assert {"tunewright.v1.FleetService", "grpc.health.v1.Health"} <= names


async def test_the_ready_file_tells_the_real_port(tmp_path: Path) -> None:
    config = ExampleConfig(ready_file=tmp_path / "ready")

    async with serving(config) as running:
        announce_ready(config, running)
        ready = json.loads((tmp_path / "ready").read_text())

    assert ready["address"] == running.address
    assert not ready["address"].endswith(":0")


async def test_an_address_in_use_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving(ExampleConfig()) as running:
        with pytest.raises(SystemExit) as ended:
            await start_server(ExampleConfig(listen=running.address), [])

    assert ended.value.code == 2
    assert "cannot listen on" in capsys.readouterr().err
