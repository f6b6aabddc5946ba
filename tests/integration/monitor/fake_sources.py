"""A scheduler and trainers as the monitor sees them: real servers, made-up feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from grpc_status import rpc_status
from tunewright.v1 import (
    feed_pb2,
    feed_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    trainer_pb2,
)
from tunewright.wire.reasons import Reason
from tunewright.wire.status import make_error, status_of

from svckit.limits import KEEPALIVE_MS

EVENTS = "events"


@dataclass
class FakeStream:
    """One stream: entries with the position after each."""

    entries: list[tuple[int, feed_pb2.Entry]] = field(default_factory=list)
    ended: bool = False

    @property
    def position(self) -> int:
        return self.entries[-1][0] if self.entries else 0


class FakeFeed(feed_pb2_grpc.FeedServiceServicer):
    """A source's feed. Entries are numbered by `step` within their stream."""

    def __init__(self, uuid: str, step: int = 1, batch_max: int = 64) -> None:
        self.uuid = uuid
        self.streams: dict[str, FakeStream] = {}
        self.requests: list[feed_pb2.StreamFeedRequest] = []
        self.acks: dict[str, int] = {}
        self.epoch = 0
        self.silent = False
        # Every batch goes out as often as this.
        self.copies = 1
        self._step = step
        self._batch_max = batch_max
        self._changed = asyncio.Event()

    def say(self, stream: str, *entries: feed_pb2.Entry) -> int:
        """Appends entries; the position after the last."""
        known = self.streams.setdefault(stream, FakeStream())
        for entry in entries:
            known.entries.append((known.position + self._step, entry))
        self.wake()
        return known.position

    def end(self, stream: str) -> None:
        """Nothing more comes in this stream."""
        self.streams.setdefault(stream, FakeStream()).ended = True
        self.wake()

    def wake(self) -> None:
        """Lets the open calls look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def StreamFeed(  # noqa: N802 # gRPC's name
        self, request: feed_pb2.StreamFeedRequest, context: Any
    ) -> AsyncIterator[feed_pb2.FeedBatch]:
        self.requests.append(request)
        await self._check_epoch(request.epoch, context)
        positions = {c.stream: c.position for c in request.cursors if c.source == self.uuid}
        ended: set[str] = set()
        while request.epoch >= self.epoch:
            changed = self._changed
            for batch in self._batches(positions, ended):
                for _ in range(self.copies):
                    yield batch
            await changed.wait()

    async def AckFeed(  # noqa: N802 # gRPC's name
        self, request: feed_pb2.AckFeedRequest, context: Any
    ) -> feed_pb2.AckFeedResponse:
        await self._check_epoch(request.epoch, context)
        for cursor in request.cursors:
            self.acks[cursor.stream] = max(self.acks.get(cursor.stream, 0), cursor.position)
        return feed_pb2.AckFeedResponse()

    async def _check_epoch(self, epoch: int, context: Any) -> None:
        if epoch < self.epoch:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "STALE_READER")
        if epoch > self.epoch:
            self.epoch = epoch
            self.wake()

    def _batches(self, positions: dict[str, int], ended: set[str]) -> list[feed_pb2.FeedBatch]:
        batches = []
        for name, stream in self.streams.items() if not self.silent else ():
            new = [pair for pair in stream.entries if pair[0] > positions.get(name, 0)]
            for start in range(0, len(new), self._batch_max):
                part = new[start : start + self._batch_max]
                cursor = feed_pb2.FeedCursor(source=self.uuid, stream=name, position=part[-1][0])
                batches.append(
                    feed_pb2.FeedBatch(cursor=cursor, entries=[entry for _, entry in part])
                )
                positions[name] = part[-1][0]
            if stream.ended and name not in ended:
                ended.add(name)
                cursor = feed_pb2.FeedCursor(
                    source=self.uuid, stream=name, position=stream.position
                )
                batches.append(feed_pb2.FeedBatch(cursor=cursor, end=True))
        return batches


class FakeScheduler(
    fleet_service_pb2_grpc.FleetServiceServicer, job_service_pb2_grpc.JobServiceServicer
):
    """The scheduler: its feed, the list of trainers, labels of jobs."""

    def __init__(self, uuid: str = "db-1") -> None:
        self.feed = FakeFeed(uuid)
        self.trainers: dict[str, trainer_pb2.Trainer] = {}
        self.labels: dict[str, Mapping[str, str]] = {}
        self.jobs_are_away = False
        self.address = ""

    def say(self, *entries: feed_pb2.Entry) -> int:
        """Appends events; the position after the last."""
        return self.feed.say(EVENTS, *entries)

    def add_trainer(
        self,
        name: str,
        address: str,
        state: trainer_pb2.TrainerState.ValueType = trainer_pb2.TRAINER_STATE_READY,
    ) -> None:
        """Lists a trainer, or changes it."""
        self.trainers[name] = trainer_pb2.Trainer(name=name, address=address, state=state)

    async def ListTrainers(  # noqa: N802 # gRPC's name
        self, request: fleet_service_pb2.ListTrainersRequest, context: Any
    ) -> fleet_service_pb2.ListTrainersResponse:
        return fleet_service_pb2.ListTrainersResponse(trainers=self.trainers.values())

    async def GetJob(  # noqa: N802 # gRPC's name
        self, request: job_service_pb2.GetJobRequest, context: Any
    ) -> job_pb2.Job:
        if self.jobs_are_away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if request.name not in self.labels:
            refusal = make_error(Reason.JOB_NOT_FOUND, f"job not found: {request.name}")
            await context.abort_with_status(rpc_status.to_status(status_of(refusal)))
        return job_pb2.Job(name=request.name, labels=self.labels[request.name])


@asynccontextmanager
async def serving(feed: FakeFeed, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serves a trainer's feed; its address."""
    server = _server()
    feed_pb2_grpc.add_FeedServiceServicer_to_server(feed, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def serving_scheduler(
    scheduler: FakeScheduler, address: str = "127.0.0.1:0"
) -> AsyncIterator[FakeScheduler]:
    """Serves the scheduler, and notes its address in it."""
    server = _server()
    feed_pb2_grpc.add_FeedServiceServicer_to_server(scheduler.feed, server)
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(scheduler, server)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(scheduler, server)
    port = server.add_insecure_port(address)
    await server.start()
    scheduler.address = f"127.0.0.1:{port}"
    try:
        yield scheduler
    finally:
        await server.stop(None)


def _server() -> grpc.aio.Server:
    return grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ("grpc.http2.max_ping_strikes", 0),
        )
    )
