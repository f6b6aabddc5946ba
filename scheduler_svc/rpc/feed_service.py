"""FeedService of the scheduler: its events in commit order, to whoever reads them.

A stream reads, waits for the next commit of this process or for a slow poll
(another process may have committed), and reads on. It ends with STALE_READER
once a reader with a higher epoch has come, and with DRAINING when the process
ends.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tunewright.v1 import feed_pb2, feed_pb2_grpc

from scheduler_svc.application.feed import STREAM, Feed
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.ports import StoredEntry
from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.errors import StaleReader
from scheduler_svc.hop import Hop
from scheduler_svc.rpc.changes import Changes
from scheduler_svc.rpc.context import Context
from svckit.config import split_address
from svckit.refusal import Reason, Refusal
from svckit.spec.text_rules import without_control_characters

READ_ENTRIES_MAX = 256
BATCH_BYTES_MAX = 1024 * 1024
_NAME_CHARACTERS_MAX = 128


class Draining(Refusal):
    """The process ends; another one, or its successor, goes on."""

    reason = Reason.DRAINING


@dataclass(frozen=True)
class FeedTimes:
    """Times in seconds: how long a stream waits for a wake-up, and how long it is silent."""

    poll_seconds: float = 1.0
    keepalive_seconds: float = 10.0


class FeedServicer(feed_pb2_grpc.FeedServiceServicer):
    """Streams to any number of readers. Close is safe to call twice."""

    def __init__(
        self, feed: Feed, lead: Lead, hop: Hop, changes: Changes, times: FeedTimes
    ) -> None:
        self._feed = feed
        self._lead = lead
        self._hop = hop
        self._changes = changes
        self._times = times
        self._closed = False
        self._newest_epoch = 0

    def close(self) -> None:
        """Ends all streams, so that the server can drain."""
        self._closed = True
        self._changes.announce()

    async def StreamFeed(  # noqa: N802 - the name is the contract's
        self, request: feed_pb2.StreamFeedRequest, context: Context
    ) -> AsyncIterator[feed_pb2.FeedBatch]:
        """What follows the cursor, and what happens from then on."""
        _check_reader(request.reader, request.reader_address)
        await self._hop(self._feed.announce, request.reader, request.reader_address, request.epoch)
        self._take_epoch(request.epoch)
        position = self._position(request.cursors) or 0
        clock = asyncio.get_running_loop().time
        keepalive_due = clock() + self._times.keepalive_seconds
        while True:
            self._check_open(request)
            changed = self._changes.next()
            entries = await self._hop(self._feed.after, position, READ_ENTRIES_MAX)
            for batch in self._batches(entries):
                yield batch
            if entries:
                position = entries[-1].position
                keepalive_due = clock() + self._times.keepalive_seconds
                continue
            await _wait(changed, min(self._times.poll_seconds, keepalive_due - clock()))
            if clock() >= keepalive_due:
                keepalive_due = clock() + self._times.keepalive_seconds
                yield feed_pb2.FeedBatch()

    async def AckFeed(  # noqa: N802 - the name is the contract's
        self, request: feed_pb2.AckFeedRequest, context: Context
    ) -> feed_pb2.AckFeedResponse:
        """Notes how far the reader has stored the events for good."""
        _check_reader(request.reader, "")
        position = self._position(request.cursors)
        if position is not None:
            await self._hop(self._feed.acknowledge, request.reader, request.epoch, position)
        return feed_pb2.AckFeedResponse()

    def _take_epoch(self, epoch: int) -> None:
        """A reader with a higher epoch ends the streams of those before, at once."""
        if epoch > self._newest_epoch:
            self._newest_epoch = epoch
            self._changes.announce()

    def _check_open(self, request: feed_pb2.StreamFeedRequest) -> None:
        if self._closed:
            raise Draining("the scheduler is shutting down", retry_delay_seconds=1.0)
        if request.epoch < self._newest_epoch:
            raise StaleReader(request.reader, request.epoch, self._newest_epoch)

    def _position(self, cursors: Iterable[feed_pb2.FeedCursor]) -> int | None:
        """Where the reader is. Cursors of other sources are somebody else's."""
        for cursor in cursors:
            if cursor.source == self._lead.database_uuid and cursor.stream == STREAM:
                return max(0, cursor.position)
        return None

    def _batches(self, entries: Sequence[StoredEntry]) -> Iterator[feed_pb2.FeedBatch]:
        """The entries in messages that are well below the limit of one."""
        batch, size = feed_pb2.FeedBatch(), 0
        for stored in entries:
            if size and size + len(stored.payload) > BATCH_BYTES_MAX:
                yield batch
                batch, size = feed_pb2.FeedBatch(), 0
            batch.entries.append(feed_pb2.Entry.FromString(stored.payload))
            batch.cursor.source = self._lead.database_uuid
            batch.cursor.stream = STREAM
            batch.cursor.position = stored.position
            size += len(stored.payload)
        if size:
            yield batch


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()


def _check_reader(reader: str, address: str) -> None:
    noted = Violations()
    with noted.noting("reader"):
        without_control_characters(reader)
        if not reader.startswith("monitors/") or not 9 < len(reader) <= _NAME_CHARACTERS_MAX:
            raise ValueError(f"expected 'monitors/<id>', got {reader[:80]!r}")
    if address:
        with noted.noting("reader_address"):
            split_address(without_control_characters(address))
            if len(address) > _NAME_CHARACTERS_MAX * 2:
                raise ValueError("is too long for host:port")
    noted.refuse_any()
