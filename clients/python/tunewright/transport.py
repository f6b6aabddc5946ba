"""Calls over a synchronous gRPC channel: the deadline, the retries, the way to the monitor.

Thin: what to retry is `tunewright.retry`, what to send `tunewright.requests`.
Raises errors of `tunewright.errors` only. May be used by several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from tunewright import rpcs
from tunewright.connection import CHANNEL_OPTIONS, Connection
from tunewright.endpoints import MonitorBook
from tunewright.errors import ApiError, Unavailable, error_from_rpc
from tunewright.retry import Backoff, CallBudget
from tunewright.rpcs import Host, Rpc
from tunewright.v1 import fleet_service_pb2

Answer = TypeVar("Answer", bound=Message)


class StreamCall(Protocol):
    """What grpc gives for a server stream, as far as it is used here."""

    def __iter__(self) -> Iterator[Message]: ...
    def __next__(self) -> Message: ...
    def cancel(self) -> bool: ...


@dataclass(frozen=True)
class OpenStream:
    """A stream and where it comes from."""

    call: StreamCall
    address: str


class Transport:
    """Channels to the scheduler, and to the monitors and trainers it names."""

    def __init__(self, connection: Connection, timeout: float, backoff: Backoff) -> None:
        self.backoff = backoff
        self._connection = connection
        self._timeout = timeout
        self._lock = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._monitors = MonitorBook()

    @property
    def address(self) -> str:
        """The scheduler's."""
        return self._connection.address

    def call(self, rpc: Rpc[Answer], request: Message, *, address: str | None = None) -> Answer:
        """One answer, within the client's timeout, retries included."""
        budget = CallBudget(self.backoff, rpc.repeatable, time.monotonic(), self._timeout)
        while True:
            try:
                return self._try(rpc, request, address or self._address(rpc, budget), budget)
            except ApiError as error:
                failure = error
            delay = budget.delay_after(failure, time.monotonic())
            if delay is None:
                raise failure from None
            time.sleep(delay)

    def open(self, rpc: Rpc[Message], request: Message) -> OpenStream:
        """Opens a stream; what is wrong with it comes when it is read."""
        budget = CallBudget(self.backoff, rpc.repeatable, time.monotonic(), self._timeout)
        where = self._address(rpc, budget)
        stream = self._channel(where).unary_stream(
            rpc.path,
            request_serializer=_serialized,
            response_deserializer=rpc.answer.FromString,
        )
        call = stream(request, metadata=self._connection.metadata)
        return OpenStream(cast("StreamCall", call), where)

    def went_away(self, address: str) -> None:
        """A monitor does not answer: the next call asks the scheduler for one."""
        self._monitors.went_away(address)

    def close(self) -> None:
        """Closes every channel; open streams end. Safe to call twice."""
        with self._lock:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()

    def _try(self, rpc: Rpc[Answer], request: Message, where: str, budget: CallBudget) -> Answer:
        unary = self._channel(where).unary_unary(
            rpc.path,
            request_serializer=_serialized,
            response_deserializer=rpc.answer.FromString,
        )
        try:
            return unary(
                request,
                timeout=budget.remaining(time.monotonic()),
                metadata=self._connection.metadata,
            )
        except grpc.RpcError as error:
            failure = error_from_rpc(error, rpc.host.at(where))
        if rpc.host is Host.MONITOR and isinstance(failure, Unavailable):
            self.went_away(where)
        raise failure

    def _address(self, rpc: Rpc[Message], budget: CallBudget) -> str:
        if rpc.host is Host.SCHEDULER:
            return self.address
        if self._monitors.current is not None:
            return self._monitors.current
        request = fleet_service_pb2.GetEndpointsRequest()
        listed = self._try(rpcs.GET_ENDPOINTS, request, self.address, budget)
        return self._monitors.choose(listed.monitors)

    def _channel(self, address: str) -> grpc.Channel:
        with self._lock:
            if address not in self._channels:
                self._channels[address] = self._open_channel(address)
            return self._channels[address]

    def _open_channel(self, address: str) -> grpc.Channel:
        if self._connection.certificates is None:
            return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self._connection.certificates)
        return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
