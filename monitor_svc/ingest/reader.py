"""Reading one source's feed: from where it is stored, on and on, with acknowledgements.

Owns one connection. Refuses nothing: whatever is wrong with the connection or
the source, it connects anew from what is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from tunewright.v1 import feed_pb2, feed_pb2_grpc
from tunewright.wire.status import rich_error

from monitor_svc.domain.admission import Outcome
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.ports import Hop, LeaseStore
from monitor_svc.domain.records import Arrival, Labels
from monitor_svc.ingest.appender import Appender
from monitor_svc.ingest.backoff import Backoff
from svckit.refusal import Refusal

log = structlog.get_logger()

# Ended streams that a source is told of. Of older ones it may send everything again, which
# is then recognised and dropped.
_ENDED_CURSORS_MAX = 5_000
_IN_FLIGHT_MAX = 16
_ACK_SECONDS = 0.2
_ACK_TIMEOUT_SECONDS = 10.0

Prepare = Callable[[list[Entry]], Awaitable[Mapping[str, Labels]]]


@dataclass(frozen=True)
class Reading:
    """What is read, by whom, under which lease."""

    key: str
    epoch: int
    reader: str
    reader_address: str


class FeedReader:
    """Reads one source over one channel, until cancelled.

    `prepare` looks at entries before they are stored: it notes trainers and
    answers with the labels of new jobs.
    """

    def __init__(
        self,
        reading: Reading,
        channel: grpc.aio.Channel,
        store: LeaseStore,
        hop: Hop,
        appender: Appender,
        prepare: Prepare,
    ) -> None:
        self._reading = reading
        self._stub = feed_pb2_grpc.FeedServiceStub(channel)
        self._store = store
        self._hop = hop
        self._appender = appender
        self._prepare = prepare
        self._backoff = Backoff()
        self.is_connected = False

    async def run(self) -> None:
        """Connects, reads, connects again. Runs until cancelled."""
        while True:
            try:
                await self._read()
                why = "the source closed the stream"
            except grpc.aio.AioRpcError as error:
                why = f"{error.code().name}: {rich_error(error).message}"
            except Refusal as refusal:
                why = refusal.message
            finally:
                self.is_connected = False
            seconds = self._backoff.next_seconds()
            log.info("feed interrupted", source=self._reading.key, why=why, retry_seconds=seconds)
            await asyncio.sleep(seconds)

    async def _read(self) -> None:
        source = await self._known_source()
        cursors = await self._hop(self._store.cursors, source, _ENDED_CURSORS_MAX)
        request = feed_pb2.StreamFeedRequest(
            reader=self._reading.reader,
            reader_address=self._reading.reader_address,
            epoch=self._reading.epoch,
            cursors=[
                feed_pb2.FeedCursor(source=c.source, stream=c.stream, position=c.position)
                for c in cursors
            ],
        )
        call: Any = self._stub.StreamFeed(request)
        positions = {cursor.stream: cursor.position for cursor in cursors}
        connection = _Connection(self._reading, self._stub, self._appender, call, positions)
        acknowledging = asyncio.create_task(connection.acknowledge())
        try:
            await self._take_all(connection, call, source)
        except asyncio.CancelledError:
            # The call was cancelled because a batch was refused, or this task is to end.
            if not connection.is_refused or _is_ending():
                raise
        finally:
            call.cancel()
            acknowledging.cancel()

    async def _take_all(self, connection: _Connection, call: Any, source: str) -> None:
        async for batch in call:
            self.is_connected = True
            self._backoff.reset()
            if not batch.HasField("cursor"):
                continue
            if batch.cursor.source != source:
                if not await self._rebound(batch.cursor.source):
                    return
                source = batch.cursor.source
            await connection.take(batch, await self._prepare(list(batch.entries)))

    async def _known_source(self) -> str:
        sources = await self._hop(self._store.sources)
        return next((s.source for s in sources if s.key == self._reading.key), "")

    async def _rebound(self, source: str) -> bool:
        """Notes who the source is; False if there are cursors of it, to connect anew with."""
        log.info("source identified", source=self._reading.key, uuid=source)
        bound = await self._hop(self._store.bind, self._reading.key, self._reading.epoch, source)
        return bound and not await self._hop(self._store.cursors, source, 1)


class _Connection:
    """One connection: where each stream stands on it, and what is to be acknowledged."""

    def __init__(
        self,
        reading: Reading,
        stub: Any,
        appender: Appender,
        call: Any,
        positions: dict[str, int],
    ) -> None:
        self._reading = reading
        self._stub = stub
        self._appender = appender
        self._call = call
        self._positions = positions
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT_MAX)
        self._stored: dict[str, feed_pb2.FeedCursor] = {}
        self._has_stored = asyncio.Event()
        self.is_refused = False

    async def take(self, batch: feed_pb2.FeedBatch, labels: Mapping[str, Labels]) -> None:
        """Hands a batch to the appender; waits only while too many are under way."""
        cursor = batch.cursor
        start = self._positions.get(cursor.stream, 0)
        self._positions[cursor.stream] = max(start, cursor.position)
        arrival = Arrival(
            self._reading.key,
            self._reading.epoch,
            cursor.source,
            cursor.stream,
            start,
            cursor.position,
            list(batch.entries),
            batch.end,
            labels,
        )
        await self._in_flight.acquire()
        outcome = await self._appender.submit(arrival)
        outcome.add_done_callback(lambda done: self._settle(cursor, done))

    async def acknowledge(self) -> None:
        """Tells the source what is stored, a few times a second at most. Until cancelled."""
        while True:
            await self._has_stored.wait()
            await asyncio.sleep(_ACK_SECONDS)
            self._has_stored.clear()
            request = feed_pb2.AckFeedRequest(
                reader=self._reading.reader,
                epoch=self._reading.epoch,
                cursors=self._stored.values(),
            )
            self._stored = {}
            # A lost one is made good: each connection begins with what is stored.
            with suppress(grpc.aio.AioRpcError):
                await self._stub.AckFeed(request, timeout=_ACK_TIMEOUT_SECONDS)

    def _settle(self, cursor: feed_pb2.FeedCursor, done: asyncio.Future[Outcome]) -> None:
        self._in_flight.release()
        if done.cancelled():
            return
        if done.result() in (Outcome.STORED, Outcome.DUPLICATE):
            self._stored[cursor.stream] = cursor
            self._has_stored.set()
        else:
            log.info("batch refused", source=self._reading.key, why=done.result().name)
            self.is_refused = True
            self._call.cancel()


def _is_ending() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
