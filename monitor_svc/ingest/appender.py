"""The one writer of a monitor: whatever has arrived goes into one transaction.

Owns the order "stored, then acknowledged, then published" and the bound on
what waits in memory. A database that is away makes the sources wait; nothing
is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from monitor_svc.domain.admission import Outcome
from monitor_svc.domain.ports import Hop, WriteStore
from monitor_svc.domain.records import Appended, Arrival
from monitor_svc.ingest.backoff import Backoff
from svckit.crash import crash_point
from svckit.refusal import Refusal

log = structlog.get_logger()


Publish = Callable[[Appended], Awaitable[None]]


@dataclass(frozen=True)
class AppendSettings:
    """Bounds of a transaction, and of what waits for one."""

    # How long the first arrival waits for company.
    linger_seconds: float = 0.02
    entries_max: int = 512
    waiting_bytes_max: int = 32 * 1024 * 1024


class Appender:
    """Takes arrivals from all readers and stores them, group by group."""

    def __init__(
        self, store: WriteStore, hop: Hop, publish: Publish, settings: AppendSettings
    ) -> None:
        self._store = store
        self._hop = hop
        self._publish = publish
        self._settings = settings
        self._queue: asyncio.Queue[tuple[Arrival, asyncio.Future[Outcome]]] = asyncio.Queue()
        self._waiting_bytes = 0
        self._room = asyncio.Condition()

    async def submit(self, arrival: Arrival) -> asyncio.Future[Outcome]:
        """Queues an arrival; its future says what became of it. Waits while too much is waiting."""
        size_bytes = _size_bytes(arrival)
        async with self._room:
            await self._room.wait_for(self._has_room)
            self._waiting_bytes += size_bytes
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((arrival, outcome))
        return outcome

    async def run(self) -> None:
        """Stores what arrives. Runs until cancelled."""
        while True:
            group = await self._next_group()
            outcomes, appended = await self._stored([arrival for arrival, _ in group])
            crash_point("monitor.stored")
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)
            await self._free(sum(_size_bytes(arrival) for arrival, _ in group))
            await self._publish(appended)

    def _has_room(self) -> bool:
        return self._waiting_bytes < self._settings.waiting_bytes_max

    async def _next_group(self) -> list[tuple[Arrival, asyncio.Future[Outcome]]]:
        group = [await self._queue.get()]
        count = len(group[0][0].entries)
        if count < self._settings.entries_max:
            await asyncio.sleep(self._settings.linger_seconds)
        while count < self._settings.entries_max and not self._queue.empty():
            group.append(self._queue.get_nowait())
            count += len(group[-1][0].entries)
        return group

    async def _stored(self, arrivals: list[Arrival]) -> tuple[list[Outcome], Appended]:
        """Tries until the database takes it: the sources still have it, and so have we."""
        backoff = Backoff(longest_seconds=5.0)
        crash_point("monitor.received")
        while True:
            try:
                return await self._hop(self._store.append, arrivals, time.time())
            except Refusal as refusal:
                log.warning("cannot store entries", reason=refusal.message)
                await asyncio.sleep(backoff.next_seconds())

    async def _free(self, size_bytes: int) -> None:
        async with self._room:
            self._waiting_bytes -= size_bytes
            self._room.notify_all()


def _size_bytes(arrival: Arrival) -> int:
    return sum(entry.ByteSize() for entry in arrival.entries)
