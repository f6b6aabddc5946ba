"""Calls to trainers: what was decided is said at once, and data checks are relayed.

To say it is an optimisation and nothing more: the answer to the trainer's next heartbeat
repeats all of it. So a call that fails is noted in the log and forgotten, and
no transaction is ever open while one is made.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import grpc
import grpc.aio
import structlog
from tunewright.v1 import data_service_pb2, trainer_service_pb2, trainer_service_pb2_grpc
from tunewright.wire.names import job_name
from tunewright.wire.status import rich_error

from scheduler_svc.converters.runs import assignment_message, stop_message
from scheduler_svc.domain.errors import (
    CheckCrashed,
    CheckTimedOut,
    TooManyChecks,
    TrainerUnavailable,
)
from scheduler_svc.domain.fleet import Host
from scheduler_svc.domain.run import AssignedRun, RunKey, StopOrder
from svckit.channel import ChannelSecurity, open_channel
from svckit.refusal import Refusal

CHANNELS_MAX = 2_000
# A trainer's refusals of a data check, which are its caller's to hear.
_PASSED_ON: Mapping[str, type[Refusal]] = {
    kind.reason: kind for kind in (TooManyChecks, CheckTimedOut, CheckCrashed)
}
_CALLS_AT_ONCE = 64


class TrainerGateway:
    """Delivers starts and stops, and relays data checks. Close is safe to call twice."""

    def __init__(self, security: ChannelSecurity, call_seconds_max: float = 5.0) -> None:
        self._security = security
        self._call_seconds_max = call_seconds_max
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._calls: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_CALLS_AT_ONCE)

    def start_run(
        self, address: str, incarnation: str, database_uuid: str, generation: int, run: AssignedRun
    ) -> None:
        """Says it in the background."""
        request = trainer_service_pb2.StartRunRequest(
            database_uuid=database_uuid,
            generation=generation,
            incarnation=incarnation,
            assignment=assignment_message(run),
        )

        async def call(stub: trainer_service_pb2_grpc.TrainerServiceAsyncStub) -> None:
            await stub.StartRun(request, timeout=self._call_seconds_max)

        self._deliver("start", address, run.key, call)

    def stop_run(self, address: str, database_uuid: str, generation: int, order: StopOrder) -> None:
        """Says it in the background."""
        request = trainer_service_pb2.StopRunRequest(
            database_uuid=database_uuid, generation=generation, stop=stop_message(order)
        )

        async def call(stub: trainer_service_pb2_grpc.TrainerServiceAsyncStub) -> None:
            await stub.StopRun(request, timeout=self._call_seconds_max)

        self._deliver("stop", address, order.key, call)

    async def check_data(
        self, host: Host, request: data_service_pb2.CheckDataRequest
    ) -> AsyncGenerator[data_service_pb2.CheckDataResponse, None]:
        """What a trainer says of data; ends there when it is closed here.

        Raises TrainerUnavailable, TooManyChecks, CheckTimedOut, CheckCrashed.
        """
        name = f"trainers/{host.trainer_id}"
        try:
            call = (await self._stub(host.trainer.address)).CheckData(request)
        except OSError as error:
            raise TrainerUnavailable(f"{name} cannot be reached: {error}") from None
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise _refusal_of(error, name) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """Ends the calls under way; heartbeats will repeat what they carried."""
        for task in list(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        channels, self._channels = self._channels, OrderedDict()
        for channel in channels.values():
            await channel.close()

    def _deliver(
        self,
        what: str,
        address: str,
        key: RunKey,
        call: Callable[[trainer_service_pb2_grpc.TrainerServiceAsyncStub], Awaitable[None]],
    ) -> None:
        task = asyncio.create_task(self._say(what, address, key, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _say(
        self,
        what: str,
        address: str,
        key: RunKey,
        call: Callable[[trainer_service_pb2_grpc.TrainerServiceAsyncStub], Awaitable[None]],
    ) -> None:
        log = structlog.get_logger().bind(
            order=what, trainer_address=address, job=job_name(key.job_id), attempt=key.attempt
        )
        try:
            async with self._slots:
                await call(await self._stub(address))
        except grpc.aio.AioRpcError as error:
            refused = rich_error(error)
            log.info("delivery left to the heartbeat", code=refused.code, why=refused.message)
        except OSError as error:
            log.warning("delivery left to the heartbeat", why=str(error))

    async def _stub(self, address: str) -> trainer_service_pb2_grpc.TrainerServiceAsyncStub:
        channel = self._channels.pop(address, None)
        if channel is None:
            channel = open_channel(address, self._security)
        self._channels[address] = channel
        if len(self._channels) > CHANNELS_MAX:
            _, oldest = self._channels.popitem(last=False)
            await oldest.close(grace=self._call_seconds_max)
        stub: trainer_service_pb2_grpc.TrainerServiceAsyncStub = (
            trainer_service_pb2_grpc.TrainerServiceStub(channel)
        )
        return stub


def _refusal_of(error: grpc.aio.AioRpcError, name: str) -> Refusal:
    """A trainer's own refusal, or that it cannot be asked."""
    told = rich_error(error)
    kind = _PASSED_ON.get(told.reason)
    if kind is not None:
        return kind(
            told.message, metadata=told.metadata, retry_delay_seconds=told.retry_delay_seconds
        )
    if told.code == "UNIMPLEMENTED":
        return TrainerUnavailable(f"{name} is too old to check data; update it")
    return TrainerUnavailable(f"{name} cannot check data now: {told.message}")
