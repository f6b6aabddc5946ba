"""Asks one service one thing, within a deadline: the answer, how long it took, version and clock.

Never raises for a service that is down: that is what a reply tells. Opens a connection for each
question, so that one dead service delays no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from tunewright.connection import CHANNEL_OPTIONS, Connection
from tunewright.errors import ApiError, error_from_rpc
from tunewright.rpcs import Rpc
from tunewright.wire.answers import answered_by

AnswerT = TypeVar("AnswerT", bound=Message, covariant=True)


@dataclass(frozen=True)
class Reply(Generic[AnswerT]):
    """What came of a question. `version` is "" and `ahead_seconds` None if it did not tell."""

    address: str
    answer: AnswerT | None
    error: ApiError | None
    took_seconds: float
    version: str = ""
    ahead_seconds: float | None = None
    """How much its clock is ahead of this machine's, give or take half of `took_seconds`."""


class Prober:
    """Asks over new connections, with the token and certificate of a client."""

    def __init__(
        self,
        connection: Connection,
        seconds_max: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._seconds_max = seconds_max
        self._clock = clock

    def ask(self, rpc: Rpc[AnswerT], request: Message, address: str) -> Reply[AnswerT]:
        """One call, no retries."""
        started, asked_at = time.monotonic(), self._clock()
        answer: AnswerT | None = None
        error: ApiError | None = None
        with self._channel(address) as channel:
            unary: Any = channel.unary_unary(
                rpc.path,
                request_serializer=_serialized,
                response_deserializer=rpc.answer.FromString,
            )
            try:
                answer, call = unary.with_call(
                    request, timeout=self._seconds_max, metadata=self._connection.metadata
                )
                trailing = call.trailing_metadata()
            except grpc.RpcError as failed:
                error = error_from_rpc(failed, rpc.host.at(address))
                trailing = _trailing_of(failed)
        took = time.monotonic() - started
        version, clock = answered_by(trailing)
        ahead = None if clock is None else clock - (asked_at + took / 2)
        return Reply(address, answer, error, took, version, ahead)

    def _channel(self, address: str) -> grpc.Channel:
        if self._connection.certificates is None:
            return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self._connection.certificates)
        return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def _trailing_of(failed: Any) -> Any:
    return failed.trailing_metadata() if hasattr(failed, "trailing_metadata") else None


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
