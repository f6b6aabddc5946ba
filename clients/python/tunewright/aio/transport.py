"""Calls over an asyncio gRPC channel: the twin of `tunewright.transport`.

Thin: what to retry is `tunewright.retry`, what to send `tunewright.requests`.
Raises errors of `tunewright.errors` only. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from tunewright import rpcs
from tunewright.connection import CHANNEL_OPTIONS, Connection
from tunewright.endpoints import MonitorBook
from tunewright.errors import ApiError, Unavailable, error_from_rpc
from tunewright.retry import Backoff, CallBudget
from tunewright.rpcs import Host, Rpc
from tunewright.v1 import fleet_service_pb2

Answer = TypeVar("Answer", bound=Message)


class AsyncStreamCall(Protocol):
    """What grpc gives for a server stream, as far as it is used here."""

    async def read(self) -> Any: ...
    def cancel(self) -> bool: ...


@dataclass(frozen=True)
class AsyncOpenStream:
    """A stream and the monitor that it comes from."""

    call: AsyncStreamCall
    address: str


class AsyncTransport:
    """Channels to the scheduler, and to the monitors and trainers it names."""

    def __init__(self, connection: Connection, timeout: float, backoff: Backoff) -> None:
        self.backoff = backoff
        self._connection = connection
        self._timeout = timeout
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._monitors = MonitorBook()

    @property
    def address(self) -> str:
        """The scheduler's."""
        return self._connection.address

    async def call(
        self, rpc: Rpc[Answer], request: Message, *, address: str | None = None
    ) -> Answer:
        """One answer, within the client's timeout, retries included."""
        budget = CallBudget(self.backoff, rpc.repeatable, time.monotonic(), self._timeout)
        while True:
            try:
                return await self._try(
                    rpc, request, address or await self._address(rpc, budget), budget
                )
            except ApiError as error:
                failure = error
            delay = budget.delay_after(failure, time.monotonic())
            if delay is None:
                raise failure from None
            await asyncio.sleep(delay)

    async def open(self, rpc: Rpc[Message], request: Message) -> AsyncOpenStream:
        """Opens a stream; what is wrong with it comes when it is read."""
        budget = CallBudget(self.backoff, rpc.repeatable, time.monotonic(), self._timeout)
        where = await self._address(rpc, budget)
        stream = self._channel(where).unary_stream(
            rpc.path,
            request_serializer=_serialized,
            response_deserializer=rpc.answer.FromString,
        )
        call = stream(request, metadata=self._connection.metadata)
        return AsyncOpenStream(cast("AsyncStreamCall", call), where)

    def went_away(self, address: str) -> None:
        """A monitor does not answer: the next call asks the scheduler for one."""
        self._monitors.went_away(address)

    async def close(self) -> None:
        """Closes every channel; open streams end. Safe to call twice."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    async def _try(
        self, rpc: Rpc[Answer], request: Message, where: str, budget: CallBudget
    ) -> Answer:
        unary = self._channel(where).unary_unary(
            rpc.path,
            request_serializer=_serialized,
            response_deserializer=rpc.answer.FromString,
        )
        try:
            return await unary(
                request,
                timeout=budget.remaining(time.monotonic()),
                metadata=self._connection.metadata,
            )
        except grpc.RpcError as error:
            failure = error_from_rpc(error, rpc.host.at(where))
        if rpc.host is Host.MONITOR and isinstance(failure, Unavailable):
            self.went_away(where)
        raise failure

    async def _address(self, rpc: Rpc[Message], budget: CallBudget) -> str:
        if rpc.host is Host.SCHEDULER:
            return self.address
        if self._monitors.current is not None:
            return self._monitors.current
        request = fleet_service_pb2.GetEndpointsRequest()
        listed = await self._try(rpcs.GET_ENDPOINTS, request, self.address, budget)
        return self._monitors.choose(listed.monitors)

    def _channel(self, address: str) -> grpc.aio.Channel:
        # Made on first use: an aio channel belongs to the loop that runs then.
        if address not in self._channels:
            self._channels[address] = self._open_channel(address)
        return self._channels[address]

    def _open_channel(self, address: str) -> grpc.aio.Channel:
        if self._connection.certificates is None:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self._connection.certificates)
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
