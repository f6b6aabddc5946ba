"""The way in, as a whole: one reader for each source that this monitor has the lease of.

Owns the readers and the loops around them. Nothing here ends because another
service or the database is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import grpc.aio
import structlog

from monitor_svc.domain.entries import Entry
from monitor_svc.domain.ports import Hop, Store
from monitor_svc.domain.records import SCHEDULER_KEY, Appended, Labels, Retention, Source
from monitor_svc.ingest.appender import Appender, AppendSettings
from monitor_svc.ingest.discovery import Discovery
from monitor_svc.ingest.holding import HoldWatch, lost_sources
from monitor_svc.ingest.labels import LabelReader
from monitor_svc.ingest.leasing import Leases
from monitor_svc.ingest.reader import FeedReader, Reading
from svckit.refusal import Refusal

log = structlog.get_logger()

_HELD_CHECK_SECONDS = 1.0
_TRIM_JOBS_MAX = 100


@dataclass(frozen=True)
class IngestSettings:
    """Who reads, and the bounds of it."""

    scheduler_address: str
    reader: str
    reader_address: str
    instance: str
    lease_seconds: float = 10.0
    discovery_seconds: float = 10.0
    label_refresh_seconds: float = 5.0
    hold_seconds_max: float = 600.0
    trim_seconds: float = 60.0
    retention: Retention = field(default_factory=Retention)
    append: AppendSettings = field(default_factory=AppendSettings)


@dataclass
class _Running:
    source: Source
    reader: FeedReader
    channel: grpc.aio.Channel
    task: asyncio.Task[None]


class Ingest:
    """Reads all feeds. `publish` and `catch_up` are the hub's, `connect` opens a channel."""

    def __init__(
        self,
        settings: IngestSettings,
        store: Store,
        hop: Hop,
        publish: Callable[[Appended], Awaitable[None]],
        catch_up: Callable[[], Awaitable[None]],
        connect: Callable[[str], grpc.aio.Channel],
    ) -> None:
        self._settings = settings
        self._store = store
        self._hop = hop
        self._publish = publish
        self._connect = connect
        self._readers: dict[str, _Running] = {}
        self._look_again = asyncio.Event()
        self._scheduler = connect(settings.scheduler_address)
        self._appender = Appender(store, hop, publish, settings.append)
        self._holds = HoldWatch(settings.hold_seconds_max)
        self._leases = Leases(
            store, hop, settings.instance, settings.reader, settings.lease_seconds
        )
        self._discovery = Discovery(
            self._scheduler, store, hop, self._look_again.set, settings.discovery_seconds
        )
        self._labels = LabelReader(
            self._scheduler, store, hop, catch_up, settings.label_refresh_seconds
        )

    async def run(self) -> None:
        """Reads until cancelled; then frees its leases."""
        loops = (
            self._appender.run,
            self._discovery.run,
            self._labels.run,
            self._keep_leases,
            self._watch_held,
            self._trim,
        )
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop())
        finally:
            await self._close()

    async def _close(self) -> None:
        for key in list(self._readers):
            await self._stop(key)
        with suppress(Refusal):
            await self._leases.give_back()
        await self._scheduler.close()

    async def _keep_leases(self) -> None:
        known = False
        while True:
            self._look_again.clear()
            try:
                if not known:
                    scheduler = {SCHEDULER_KEY: self._settings.scheduler_address}
                    await self._hop(self._store.know, scheduler)
                    known = True
                await self._match_readers(await self._leases.renew())
            except Refusal as refusal:
                log.warning("cannot renew leases", reason=refusal.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_again.wait(), self._settings.lease_seconds / 4)

    async def _match_readers(self, held: Mapping[str, Source]) -> None:
        """Starts and stops readers until they are those of the leases held."""
        for key, running in list(self._readers.items()):
            current = held.get(key)
            if current is None or _place(current) != _place(running.source) or running.task.done():
                await self._stop(key)
        for key, source in held.items():
            if key not in self._readers:
                self._start(source)

    def _start(self, source: Source) -> None:
        settings = self._settings
        channel = self._connect(source.address)
        reader = FeedReader(
            Reading(source.key, source.epoch, settings.reader, settings.reader_address),
            channel,
            self._store,
            self._hop,
            self._appender,
            self._prepare if source.key == SCHEDULER_KEY else _nothing_to_prepare,
        )
        task = asyncio.create_task(reader.run(), name=f"reader of {source.key}")
        task.add_done_callback(_log_crash)
        self._readers[source.key] = _Running(source, reader, channel, task)

    async def _stop(self, key: str) -> None:
        running = self._readers.pop(key)
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        await running.channel.close()

    async def _prepare(self, entries: list[Entry]) -> Mapping[str, Labels]:
        self._discovery.notice(entries)
        return await self._labels.of_entries(entries)

    async def _watch_held(self) -> None:
        while True:
            await asyncio.sleep(min(_HELD_CHECK_SECONDS, self._settings.hold_seconds_max / 4))
            try:
                await self._release_held()
            except Refusal as refusal:
                log.warning("cannot release held entries", reason=refusal.message)

    async def _release_held(self) -> None:
        """Held entries are the scheduler's: whoever reads it looks after them."""
        scheduler = self._readers.get(SCHEDULER_KEY)
        if scheduler is None:
            return
        held = await self._hop(self._store.held)
        uuids = {source.key: source.source for source in self._leases.seen if source.source}
        connected = {key for key, running in self._readers.items() if running.reader.is_connected}
        lost = lost_sources(uuids, self._discovery.lost, connected)
        expired = self._holds.expired(held, lost, time.monotonic())
        if not held:
            return
        epoch = scheduler.source.epoch
        appended = await self._hop(
            self._store.release_held, SCHEDULER_KEY, epoch, expired, time.time()
        )
        if appended is not None and appended.entries:
            log.warning("held entries released", count=len(appended.entries), given_up=len(expired))
            await self._publish(appended)

    async def _trim(self) -> None:
        retention = self._settings.retention
        while retention.entries_per_job_max or retention.idle_seconds_max:
            try:
                removed = await self._hop(self._store.trim, retention, time.time(), _TRIM_JOBS_MAX)
                if removed:
                    log.info("entries removed by retention", count=removed)
                    continue
            except Refusal as refusal:
                log.warning("cannot trim", reason=refusal.message)
            await asyncio.sleep(self._settings.trim_seconds)


def _place(source: Source) -> tuple[int, str]:
    return source.epoch, source.address


async def _nothing_to_prepare(_entries: list[Entry]) -> Mapping[str, Labels]:
    return {}


def _log_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("reader failed", reader=task.get_name(), exc_info=task.exception())
