"""The fan-out: from what was appended to everybody who wants it.

Owns the subscriptions and the order in which they are served: the log's. What
other monitors appended is read from the store. Keeps nothing of a job that
nobody is subscribed to. Refuses subscribers only when the monitor goes down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import structlog

from monitor_svc.domain.coalescing import Item
from monitor_svc.domain.ports import Hop, ReadStore
from monitor_svc.domain.records import Appended, LogEntry
from monitor_svc.domain.refusals import Draining
from monitor_svc.domain.selection import JobSelection, LabelSelection
from monitor_svc.subscription import MESSAGE_BYTES_MAX, Delivery, Subscription
from svckit.refusal import Refusal

log = structlog.get_logger()

_SLICE_ENTRIES = 256
_TAIL_ENTRIES = 1024


@dataclass(frozen=True)
class HubSettings:
    """Bounds of the fan-out."""

    buffer_entries_max: int = 1024
    message_entries_max: int = 1024
    keepalive_seconds: float = 15.0
    # How often the log is looked at for what other monitors appended; 0: never, there are none.
    poll_seconds: float = 0.0
    # Longest wait, in all, for subscribers that make progress but have a full buffer.
    patience_seconds: float = 0.1


class Hub:
    """All subscribers of one monitor."""

    def __init__(self, store: ReadStore, hop: Hop, settings: HubSettings) -> None:
        self._store = store
        self._hop = hop
        self._settings = settings
        self._head = 0
        self._publishing = asyncio.Lock()
        self._by_job: dict[str, set[Subscription]] = {}
        self._by_label: set[Subscription] = set()
        self._everybody: set[Subscription] = set()
        self._closed = False

    async def start(self) -> None:
        """Finds the log's end; raises a Refusal if the database does not answer."""
        self._head = await self._hop(self._store.position)

    async def run(self) -> None:
        """Looks for what others appended, and keeps idle streams alive. Runs until cancelled."""
        await asyncio.gather(self._poll(), self._keep_alive())

    def close(self) -> None:
        """Ends all streams with Draining, so that subscribers go on elsewhere."""
        self._closed = True
        for subscription in self._everybody:
            subscription.fail(Draining())

    def subscriber_count(self) -> int:
        """How many are attached."""
        return len(self._everybody)

    async def publish(self, appended: Appended) -> None:
        """Serves what was appended, after what was appended before it."""
        async with self._publishing:
            if appended.position <= self._head:
                return
            try:
                if appended.previous != self._head:
                    await self._serve_stored(appended.previous)
                await self._serve(appended.entries)
            except Refusal as refusal:
                self._send_back_to_store(refusal)
            self._head = max(self._head, appended.position)

    async def catch_up(self) -> None:
        """Serves what is in the log and was not published here."""
        async with self._publishing:
            position = await self._hop(self._store.position)
            if position > self._head:
                await self._serve_stored(position)

    @contextmanager
    def attach(
        self, selection: JobSelection | LabelSelection, kinds: Collection[int] = ()
    ) -> Iterator[Subscription]:
        """A subscription that hears of everything published from now on."""
        if self._closed:
            raise Draining
        subscription = Subscription(selection, kinds, self._settings.buffer_entries_max)
        groups = self._groups_of(selection)
        for group in groups:
            group.add(subscription)
        self._everybody.add(subscription)
        try:
            yield subscription
        finally:
            self._everybody.discard(subscription)
            for group in groups:
                group.discard(subscription)
            self._forget_empty(selection)

    async def stream(
        self, subscription: Subscription, *, until_terminal: bool, follow: bool = True
    ) -> AsyncIterator[Delivery]:
        """What is stored, then what comes.

        Ends after the last entry of jobs that have ended (`until_terminal`), or
        when what was stored has been sent (not `follow`). Raises SlowSubscriber,
        Draining, or what the database refuses with.
        """
        while True:
            subscription.raise_failure()
            delivery = subscription.take(self._settings.message_entries_max)
            if delivery is not None:
                yield delivery
            elif not subscription.is_live:
                async for delivery in self._stored(subscription):
                    yield delivery
                if not follow:
                    return
            elif until_terminal and subscription.is_finished():
                return
            elif subscription.has_been_silent(self._settings.keepalive_seconds):
                yield subscription.keepalive()
            else:
                await subscription.wait()

    async def _stored(self, subscription: Subscription) -> AsyncIterator[Delivery]:
        """Reads the store to its end; the subscription is live afterwards."""
        while True:
            subscription.raise_failure()
            items = await self._hop(subscription.stored.read, self._store)
            for piece in pieces(items, MESSAGE_BYTES_MAX):
                yield subscription.deliver(piece, last=piece[-1] is items[-1])
            if not items and subscription.has_read_everything():
                return

    async def _serve_stored(self, position: int) -> None:
        """Serves the log from the store, up to `position`."""
        while self._head < position:
            page = await self._hop(self._store.read_log, self._head, _TAIL_ENTRIES)
            await self._serve(page.entries)
            self._head = page.upto

    async def _serve(self, entries: Sequence[LogEntry]) -> None:
        for start in range(0, len(entries), _SLICE_ENTRIES):
            part = entries[start : start + _SLICE_ENTRIES]
            for job, of_job in groupby(part, key=lambda entry: entry.stored.job):
                run = list(of_job)
                for subscription in tuple(self._by_job.get(job, ())):
                    subscription.offer(run)
            for subscription in tuple(self._by_label):
                subscription.offer(part)
            await self._let_drain()

    async def _let_drain(self) -> None:
        """Waits a little for those who are only just behind, and for nobody else."""
        loop = asyncio.get_running_loop()
        patience = self._settings.patience_seconds
        deadline = loop.time() + patience
        await asyncio.sleep(0)
        while any(
            subscription.is_half_full and subscription.take_time > loop.time() - patience
            for subscription in self._everybody
        ):
            if loop.time() >= deadline:
                return
            await asyncio.sleep(0.002)

    def _send_back_to_store(self, refusal: Refusal) -> None:
        log.warning("subscribers read the store again", reason=refusal.message)
        for subscription in self._everybody:
            subscription.fall_behind()

    async def _poll(self) -> None:
        while self._settings.poll_seconds:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                await self.catch_up()
            except Refusal as refusal:
                log.warning("cannot look for new entries", reason=refusal.message)

    async def _keep_alive(self) -> None:
        """One timer for all: one for each subscriber and wait would cost more than the waits."""
        while True:
            await asyncio.sleep(self._settings.keepalive_seconds / 4)
            for subscription in self._everybody:
                if subscription.has_been_silent(self._settings.keepalive_seconds):
                    subscription.wake()

    def _groups_of(self, selection: JobSelection | LabelSelection) -> list[set[Subscription]]:
        if isinstance(selection, LabelSelection):
            return [self._by_label]
        return [self._by_job.setdefault(job, set()) for job in selection.taken]

    def _forget_empty(self, selection: JobSelection | LabelSelection) -> None:
        for job in selection.taken if isinstance(selection, JobSelection) else ():
            if not self._by_job.get(job, True):
                del self._by_job[job]


def pieces(items: Sequence[Item], size_bytes_max: int) -> Iterator[list[Item]]:
    """The items in parts that fit a message."""
    part: list[Item] = []
    size_bytes = 0
    for item in items:
        if part and size_bytes + item.size_bytes > size_bytes_max:
            yield part
            part, size_bytes = [], 0
        part.append(item)
        size_bytes += item.size_bytes
    if part:
        yield part
