"""A monitor process: production's store, admission, leases, holding and fan-out.

Reading a source is modelled as pulls (one turn of StreamFeed each), by the
rules of monitor_svc.ingest.reader: from where it is stored, stored before
acknowledged, acknowledged before published.
"""

from __future__ import annotations

import asyncio
from asyncio import events as asyncio_events
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from typing import Any

from tunewright.v1 import feed_pb2, fleet_service_pb2, trainer_pb2

from monitor_svc.domain.admission import Outcome
from monitor_svc.domain.leases import LeaseWatch
from monitor_svc.domain.records import SCHEDULER_KEY, Appended, Arrival, Source
from monitor_svc.domain.selection import JobSelection
from monitor_svc.hub import Hub, HubSettings
from monitor_svc.ingest.holding import HoldWatch, lost_sources
from monitor_svc.storage.memory import MemoryStore
from svckit.refusal import Refusal
from tests.simulation.network import CallFailed, Network
from tests.simulation.virtual_time import Process

_LEASE_SECONDS = 10.0
_RENEW_SECONDS = 4.0
_HOLD_SECONDS_MAX = 240.0
_HELD_CHECK_SECONDS = 8.0
_DISCOVERY_SECONDS = 10.0
_CALL_SECONDS_MAX = 3.0
_QUIET_SECONDS = 4.0

Send = Callable[[int, Sequence[feed_pb2.Entry]], bool]
"""Gives a batch, numbered from 1, to a subscriber's connection; False if that is gone."""


class SimMonitorStore(MemoryStore):
    """The monitor's database: a process may end right before or right after a commit."""

    def append(self, arrivals: Sequence[Arrival], now: float) -> tuple[list[Outcome], Appended]:
        hazard("before the monitor's commit")
        answer = super().append(arrivals, now)
        hazard("after the monitor's commit")
        return answer

    def release_held(self, key: str, epoch: int, expired: Set[int], now: float) -> Appended | None:
        hazard("before the monitor's commit")
        return super().release_held(key, epoch, expired, now)


def hazard(point: str) -> None:
    """Lets the process that runs now end here."""
    process = asyncio_events._get_running_loop()
    if isinstance(process, Process):
        process.hazard(point)


class MonitorService:
    """One start of the service."""

    def __init__(
        self, store: MemoryStore, process: Process, network: Network, instance: str
    ) -> None:
        self._store = store
        self._process = process
        self._network = network
        self._instance = instance
        self._watch = LeaseWatch(instance, "monitor", _LEASE_SECONDS)
        self._readers: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._seen: list[Source] = []
        self._lost: frozenset[str] = frozenset()
        self._connected: set[str] = set()
        self._holds = HoldWatch(_HOLD_SECONDS_MAX)
        settings = HubSettings(buffer_entries_max=24, patience_seconds=0.0)
        self._hub = Hub(store, self._hop, settings)
        network.listen("monitor", process, {})
        process.spawn(self._serve(), "monitor service")

    async def _hop(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    async def _serve(self) -> None:
        self._store.know({SCHEDULER_KEY: "scheduler:7400"})
        await self._hub.start()
        self._process.spawn(self._hub.run(), "hub")
        self._process.spawn(self._discover(), "discovery")
        self._process.spawn(self._watch_held(), "held entries")
        while True:
            self._renew()
            await asyncio.sleep(_RENEW_SECONDS)

    # --- leases and readers

    def _renew(self) -> None:
        self._seen = self._store.beat(self._instance)
        held = {one.key: one.epoch for one in self._seen if one.holder == self._instance}
        for source in self._watch.claimable(self._seen, self._process.time()):
            epoch = self._store.claim(source, self._instance, "monitor", 0)
            if epoch is not None:
                held[source.key] = epoch
        for key, (epoch, task) in list(self._readers.items()):
            if held.get(key) != epoch:
                task.cancel()
                del self._readers[key]
        for key, epoch in held.items():
            if key not in self._readers:
                task = self._process.create_task(self._read_on(key, epoch), name=f"reader {key}")
                task.add_done_callback(self._process._look)
                self._readers[key] = (epoch, task)

    async def _read_on(self, key: str, epoch: int) -> None:
        earlier: list[Arrival] = []
        while True:
            arrivals: list[Arrival] = []
            try:
                arrivals = await self._pull(key, epoch)
                self._connected.add(key)
            except CallFailed:
                self._connected.discard(key)
            if arrivals:
                await self._keep(key, arrivals)
                if earlier and self._process.world.rng.random() < 0.05:
                    await self._keep(key, earlier)  # the same once more, and late
                earlier = arrivals
            quiet = not any(one.entries for one in arrivals)
            await asyncio.sleep(_QUIET_SECONDS if quiet else 0.1)

    async def _pull(self, key: str, epoch: int) -> list[Arrival]:
        source = next((one.source for one in self._store.sources() if one.key == key), "")
        cursors = self._store.cursors(source, 5_000)
        ended = {one.stream for one in cursors if one.ended}
        positions = {one.stream: one.position for one in cursors}
        request = feed_pb2.StreamFeedRequest(
            reader="monitors/monitor",
            reader_address="monitor:7401",
            epoch=epoch,
            cursors=[
                feed_pb2.FeedCursor(source=one.source, stream=one.stream, position=one.position)
                for one in cursors
            ],
        )
        batches = await self._call(_node(key), "pull", request)
        arrivals = []
        for batch in batches:
            cursor = batch.cursor
            if cursor.source != source:
                bound = self._store.bind(key, epoch, cursor.source)
                source = cursor.source
                if not bound or self._store.cursors(source, 1):
                    return []
            if batch.end and not batch.entries and cursor.stream in ended:
                continue
            start = positions.get(cursor.stream, 0)
            positions[cursor.stream] = max(start, cursor.position)
            arrivals.append(
                Arrival(
                    key,
                    epoch,
                    cursor.source,
                    cursor.stream,
                    start,
                    cursor.position,
                    list(batch.entries),
                    is_last=batch.end,
                )
            )
        return arrivals

    async def _keep(self, key: str, arrivals: list[Arrival]) -> None:
        outcomes, appended = self._store.append(arrivals, self._process.time())
        stored = [
            feed_pb2.FeedCursor(source=one.source, stream=one.stream, position=one.end)
            for one, outcome in zip(arrivals, outcomes, strict=True)
            if outcome in (Outcome.STORED, Outcome.DUPLICATE)
        ]
        if stored:
            request = feed_pb2.AckFeedRequest(
                reader="monitors/monitor", epoch=arrivals[0].epoch, cursors=stored
            )
            self._process.spawn(self._acknowledge(_node(key), request))
        await self._hub.publish(appended)

    async def _acknowledge(self, node: str, request: feed_pb2.AckFeedRequest) -> None:
        with suppress(CallFailed):
            await self._call(node, "/tunewright.v1.FeedService/AckFeed", request)

    async def _call(self, node: str, method: str, request: Any) -> Any:
        return await self._network.call(
            self._process, "monitor", node, method, request, _CALL_SECONDS_MAX
        )

    # --- discovery, held entries

    async def _discover(self) -> None:
        while True:
            with suppress(CallFailed):
                request = fleet_service_pb2.ListTrainersRequest()
                method = "/tunewright.v1.FleetService/ListTrainers"
                answer = await self._call("scheduler", method, request)
                lost = trainer_pb2.TRAINER_STATE_LOST
                self._lost = frozenset(one.name for one in answer.trainers if one.state == lost)
                self._store.know({one.name: one.address for one in answer.trainers})
            await asyncio.sleep(_DISCOVERY_SECONDS)

    async def _watch_held(self) -> None:
        while True:
            await asyncio.sleep(_HELD_CHECK_SECONDS)
            reading = self._readers.get(SCHEDULER_KEY)
            held = self._store.held()
            if reading is None or not held:
                continue
            uuids = {one.key: one.source for one in self._seen if one.source}
            lost = lost_sources(uuids, self._lost, self._connected)
            expired = self._holds.expired(held, lost, self._process.time())
            appended = self._store.release_held(
                SCHEDULER_KEY, reading[0], expired, self._process.time()
            )
            if appended is not None and appended.entries:
                await self._hub.publish(appended)

    # --- subscribers

    def subscribe(self, job: str, after: int, send: Send, pause_seconds: float) -> None:
        """A subscriber's call has come in; each batch takes it so long."""
        if self._process.alive:
            self._process.spawn(self._stream(job, after, send, pause_seconds))

    async def _stream(self, job: str, after: int, send: Send, pause_seconds: float) -> None:
        number = 0
        with suppress(Refusal):
            with self._hub.attach(JobSelection({job: after})) as subscription:
                async for delivery in self._hub.stream(subscription, until_terminal=False):
                    number += 1
                    if not send(number, delivery.entries):
                        return
                    if pause_seconds:
                        await asyncio.sleep(pause_seconds)


def _node(key: str) -> str:
    return "scheduler" if key == SCHEDULER_KEY else key.removeprefix("trainers/")
