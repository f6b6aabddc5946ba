"""A stream of entries that outlives its connections, for the synchronous client.

Owns the loop "read, and when it breaks wait and open again"; what to ask for
and when to give up is `tunewright.subscription`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import grpc

from tunewright.errors import ApiError, Unavailable, error_from_rpc
from tunewright.rpcs import Host
from tunewright.subscription import (
    EntrySubscription,
    OnInterruption,
    StreamState,
    line_text,
)
from tunewright.transport import OpenStream, Transport
from tunewright.v1 import feed_pb2

Item = TypeVar("Item")


class Stream(Generic[Item]):
    """Iterate over it; leave its `with` block, or `close()`, to end it.

    Raises an ApiError when the service refuses it for good; when the monitor or
    the network goes away, it waits and goes on where it stopped.
    """

    def __init__(
        self,
        transport: Transport,
        state: StreamState[Item],
        on_interruption: OnInterruption | None = None,
    ) -> None:
        self._transport = transport
        self._state = state
        self._on_interruption = on_interruption
        self._open: OpenStream | None = None
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while not self._state.pending:
            if self._state.finished or self._closed.is_set():
                self.close()
                raise StopIteration
            self._advance()
        return self._state.pending.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream, and tells the service so. Safe to call twice, and from any thread."""
        self._closed.set()
        self._hang_up()

    def _advance(self) -> None:
        """Reads one answer; or notes the end; or waits until it is time to open again."""
        failure: ApiError | None = None
        try:
            self._state.received(next(self._opened().call))
            return
        except StopIteration:
            pass  # closed with OK
        except grpc.RpcError as error:
            where = self._open.address if self._open else ""
            failure = error_from_rpc(error, Host.MONITOR.at(where))
        except ApiError as error:  # no monitor could be found
            failure = error
        if not self._closed.is_set():
            self._wait_to_reopen(failure)

    def _wait_to_reopen(self, failure: ApiError | None) -> None:
        delay = self._state.broke(failure, time.monotonic())
        if self._open is not None and isinstance(failure, Unavailable):
            self._transport.went_away(self._open.address)
        self._hang_up()
        if delay is not None:
            if failure is not None and self._on_interruption is not None:
                self._on_interruption(failure, delay)
            self._closed.wait(delay)

    def _opened(self) -> OpenStream:
        if self._open is None:
            subscription = self._state.subscription
            self._open = self._transport.open(subscription.rpc, subscription.request())
        return self._open

    def _hang_up(self) -> None:
        stream, self._open = self._open, None
        if stream is not None:
            stream.call.cancel()


class Watch(Stream[feed_pb2.Entry]):
    """Entries of one job or several, in one order each."""

    def __init__(
        self,
        transport: Transport,
        subscription: EntrySubscription,
        state: StreamState[feed_pb2.Entry],
        on_interruption: OnInterruption | None = None,
    ) -> None:
        super().__init__(transport, state, on_interruption)
        self._subscription = subscription

    @property
    def last_sequence(self) -> int:
        """The last sequence received; give it as `after_sequence` to go on another time."""
        return self._subscription.last_sequence

    @property
    def resume_token(self) -> str:
        """Where a watch over several jobs goes on another time."""
        return self._subscription.resume_token


class Lines:
    """The text of printed lines, one by one; `entries` has them with sequence and time."""

    def __init__(self, entries: Stream[feed_pb2.Entry]) -> None:
        self.entries = entries

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return line_text(next(self.entries))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream. Safe to call twice."""
        self.entries.close()
