"""FeedService of a trainer: the streams of its runs, live, and their acknowledgement.

One reader at a time: the one with the highest lease epoch that this process
has seen. The epoch is not kept over a restart; the monitor's own store checks
it again with every batch, and a monitor with a new store must not be shut out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

import grpc.aio
from tunewright.v1 import feed_pb2, feed_pb2_grpc

from trainer_svc.domain.refusals import Draining, StaleReader
from trainer_svc.supervisor.feed_batches import read_batch
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.status import stream_name
from trainer_svc.supervisor.supervisor import Supervisor

# Quoted: generic in the stubs, not at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_POLL_SECONDS = 0.2
# A move that falls between a turn and the wait for the next is seen this late.
_IDLE_SECONDS = 1.0


class FeedServicer(feed_pb2_grpc.FeedServiceServicer):
    """Streams what follows the reader's cursors."""

    def __init__(self, supervisor: Supervisor, keepalive_seconds: float) -> None:
        self._supervisor = supervisor
        self._keepalive_seconds = keepalive_seconds
        self._epoch = 0

    async def StreamFeed(  # noqa: N802 # the name on the wire
        self, request: feed_pb2.StreamFeedRequest, context: Context
    ) -> AsyncIterator[feed_pb2.FeedBatch]:
        """Every run's streams from the cursors on, and what is added, until the call ends."""
        self._admit(request.epoch)
        # A reader must know at once that it is connected, also when nothing happens.
        await context.send_initial_metadata(())
        source = self._supervisor.workspace.uuid
        reading = _Reading(
            {one.stream: one.position for one in request.cursors if one.source == source}
        )
        said = time.monotonic()
        while not self._supervisor.draining:
            quiet = True
            async for batch in self._turn(reading, source):
                self._admit(request.epoch)
                yield batch
                quiet = False
                said = time.monotonic()
            if time.monotonic() - said >= self._keepalive_seconds:
                yield feed_pb2.FeedBatch()
                said = time.monotonic()
            if quiet:
                self._admit(request.epoch)
                await self._wait(said)
        raise Draining("this trainer service is ending", retry_delay_seconds=1.0)

    async def AckFeed(  # noqa: N802 # the name on the wire
        self, request: feed_pb2.AckFeedRequest, context: Context
    ) -> feed_pb2.AckFeedResponse:
        """Notes what is stored for good; streams that are gone are passed over."""
        self._admit(request.epoch)
        source = self._supervisor.workspace.uuid
        stored = {one.stream: one.position for one in request.cursors if one.source == source}
        for run, stream in self._streams():
            position = stored.get(stream_name(run, stream))
            if position is not None:
                run.ack(stream, position)
        return feed_pb2.AckFeedResponse()

    def _admit(self, epoch: int) -> None:
        if epoch < self._epoch:
            raise StaleReader(
                f"a reader with epoch {self._epoch} has taken over",
                metadata={"epoch": str(self._epoch)},
            )
        self._epoch = epoch

    def _streams(self) -> Iterator[tuple[Run, str]]:
        for run in self._supervisor.runs():
            for stream in run.streams:
                yield run, stream

    async def _turn(self, reading: _Reading, source: str) -> AsyncIterator[feed_pb2.FeedBatch]:
        """One batch at most of each stream, so that a long one does not hold up the others."""
        for run, stream in self._streams():
            name = stream_name(run, stream)
            if not reading.wants(run, stream, name):
                continue
            batch = await asyncio.to_thread(
                read_batch, run, stream, reading.positions.get(name, 0), source
            )
            if batch is not None:
                reading.took(name, batch)
                yield batch

    async def _wait(self, said: float) -> None:
        """Until a run moves, or, while one is active, its files may have grown."""
        left = max(0.0, said + self._keepalive_seconds - time.monotonic())
        pause = _POLL_SECONDS if self._supervisor.active() else _IDLE_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(pause, left)), self._supervisor.moved:
                await self._supervisor.moved.wait()


class _Reading:
    """How far one call has come."""

    def __init__(self, positions: dict[str, int]) -> None:
        self.positions = positions
        self._ended: set[str] = set()

    def wants(self, run: Run, stream: str, name: str) -> bool:
        """False if nothing can be there: spares a thread hop for every quiet stream."""
        if name in self._ended:
            return False
        grown = run.folder.stream_size(stream) > self.positions.get(name, 0)
        return grown or run.stream_closed(stream)

    def took(self, name: str, batch: feed_pb2.FeedBatch) -> None:
        self.positions[name] = batch.cursor.position
        if batch.end:
            self._ended.add(name)
