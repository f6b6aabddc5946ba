"""The serving half of a monitor in this process: a store, a hub, a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tunewright.v1 import feed_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from monitor_svc.config import MonitorConfig
from monitor_svc.domain.admission import Outcome
from monitor_svc.domain.ports import Store
from monitor_svc.domain.records import SCHEDULER_KEY, Appended, Arrival, Labels
from monitor_svc.hub import Hub, HubSettings
from monitor_svc.rpc.existence import Existence
from monitor_svc.rpc.servicer import MonitorServicer
from monitor_svc.storage.memory import MemoryStore
from monitor_svc.storage.sql_store import open_sql_store
from svckit.config import load_config
from svckit.database import Database
from svckit.server import Registration, start_server

# How long a job is waited for while the scheduler does not answer.
JOB_WAIT_SECONDS = 0.6


@dataclass
class FakeJobs:
    """What the scheduler says of jobs: those in `existing` exist; nothing while it is `away`."""

    existing: set[str] = field(default_factory=set)
    away: bool = False
    asked: list[str] = field(default_factory=list)

    async def knows(self, job: str, timeout_seconds: float) -> bool | None:
        self.asked.append(job)
        return None if self.away else job in self.existing


@dataclass
class Served:
    """A monitor without its way in: `append` is the way in."""

    store: Store
    hub: Hub
    address: str
    jobs: FakeJobs
    _streams: count[int] = field(default_factory=count)

    async def append(
        self, *entries: feed_pb2.Entry, labels: Mapping[str, Labels] | None = None
    ) -> None:
        """Stores and publishes, as the appender does."""
        await self.hub.publish(await self.store_only(*entries, labels=labels))

    async def store_only(
        self, *entries: feed_pb2.Entry, labels: Mapping[str, Labels] | None = None
    ) -> Appended:
        """Stores, and leaves it to the caller to publish."""
        arrival = Arrival(
            SCHEDULER_KEY,
            1,
            "db",
            f"events-{next(self._streams)}",
            0,
            len(entries),
            entries,
            labels=labels or {},
        )
        outcomes, appended = await asyncio.to_thread(self.store.append, [arrival], 1.0)
        assert outcomes == [Outcome.STORED]
        return appended


async def hop(function: Any, /, *args: Any) -> Any:
    """A thread for the store in memory."""
    return await asyncio.to_thread(function, *args)


@asynccontextmanager
async def serving_store(
    store: Store, run: Any = hop, settings: HubSettings | None = None
) -> AsyncIterator[Served]:
    """Serves a store that somebody else owns."""
    store.know({SCHEDULER_KEY: "127.0.0.1:1"})
    store.claim(store.sources()[0], "me", "monitors/m", 1)
    hub = Hub(store, run, settings or HubSettings())
    await hub.start()
    config = load_config(MonitorConfig, ["--listen", "127.0.0.1:0", "--drain-seconds", "0.5"])
    jobs = FakeJobs()
    existence = Existence(store, run, jobs, JOB_WAIT_SECONDS)
    registration = Registration(
        monitor_service_pb2.DESCRIPTOR.services_by_name["MonitorService"],
        monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server,
        MonitorServicer(hub, store, run, existence),
    )
    running = await start_server(config, [registration])
    loops = asyncio.create_task(hub.run())
    try:
        yield Served(store, hub, running.address, jobs)
    finally:
        hub.close()
        await running.stop()
        loops.cancel()
        with suppress(asyncio.CancelledError):
            await loops


@asynccontextmanager
async def served_from_memory(**settings: Any) -> AsyncIterator[Served]:
    """With the store in memory."""
    async with serving_store(MemoryStore(), settings=HubSettings(**settings)) as served:
        yield served


@asynccontextmanager
async def served_from_sqlite(folder: Path, **settings: Any) -> AsyncIterator[Served]:
    """With SQLite."""
    database = Database(f"sqlite:///{folder}/served.db")
    store = open_sql_store(database)
    async with serving_store(store, database.run, HubSettings(**settings)) as served:
        yield served
    database.close()
