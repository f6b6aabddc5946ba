"""Calls to the scheduler's registry, and what its refusals mean here.

Owns the mapping from a failed call to one of four: the attempt is stale, the
incarnation is not known, the request is refused for good, or nobody answered.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from tunewright.v1 import registry_service_pb2 as pb
from tunewright.v1 import registry_service_pb2_grpc
from tunewright.wire.reasons import Reason
from tunewright.wire.status import rich_error

from trainer_svc.domain.refusals import StaleAttempt

if TYPE_CHECKING:
    from tunewright.v1.registry_service_pb2_grpc import TrainerRegistryServiceAsyncStub

T = TypeVar("T")


class Outage(Exception):
    """Nobody answered, or the answer does not count; ask again later."""


class Unknown(Exception):
    """The scheduler does not know this incarnation; register again."""


class Refused(Exception):
    """The scheduler will never do this (a cancel came first)."""


_UNKNOWN_INCARNATION = (
    Reason.NOT_REGISTERED,
    Reason.STALE_INCARNATION,
    Reason.TRAINER_NOT_FOUND,
)


class RegistryClient:
    """The four calls, each with a time limit."""

    def __init__(self, channel: grpc.aio.Channel, timeout_seconds: float) -> None:
        stub: TrainerRegistryServiceAsyncStub
        stub = registry_service_pb2_grpc.TrainerRegistryServiceStub(channel)
        self._stub = stub
        self._timeout_seconds = timeout_seconds

    async def register(self, request: pb.RegisterTrainerRequest) -> pb.RegisterTrainerResponse:
        """Makes the trainer known. Raises Outage."""
        try:
            return await self._call(
                self._stub.RegisterTrainer(request, timeout=self._timeout_seconds)
            )
        except (Unknown, Refused, StaleAttempt) as error:
            raise Outage(str(error)) from None

    async def heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        """Says what is there. Raises Outage, Unknown."""
        try:
            return await self._call(self._stub.Heartbeat(request, timeout=self._timeout_seconds))
        except (Refused, StaleAttempt) as error:
            raise Outage(str(error)) from None

    async def report(self, request: pb.ReportRunRequest) -> pb.ReportRunResponse:
        """Reports one run. Raises Outage, Unknown, Refused, StaleAttempt."""
        return await self._call(self._stub.ReportRun(request, timeout=self._timeout_seconds))

    async def begin_publish(self, request: pb.BeginPublishRequest) -> pb.BeginPublishResponse:
        """Returns once the grant is given. Raises Outage, Unknown, Refused, StaleAttempt."""
        return await self._call(self._stub.BeginPublish(request, timeout=self._timeout_seconds))

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except grpc.RpcError as failed:
            error = rich_error(failed)
            if error.reason == Reason.STALE_ATTEMPT:
                raise StaleAttempt(error.message) from None
            if error.reason in _UNKNOWN_INCARNATION:
                raise Unknown(error.message) from None
            if error.reason == Reason.FORBIDDEN_MOVE:
                raise Refused(error.message) from None
            raise Outage(f"{error.code}: {error.message}") from None
