"""One subscriber: its bounded buffer, and what happens when that is full.

A subscriber first reads the store and only notes that more was published; once
it has read everything, it is live and gets what is published into its buffer.
The step from one to the other happens between two turns of the event loop, so
nothing falls in between. Lives on the event loop; not for threads.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from monitor_svc.domain.coalescing import Item, coalesce, items_of
from monitor_svc.domain.entries import Entry, keepalive_entry
from monitor_svc.domain.records import LogEntry
from monitor_svc.domain.refusals import SlowSubscriber
from monitor_svc.domain.selection import JobSelection, LabelSelection
from monitor_svc.reading import StoredJobs, StoredLog, StoredPart
from svckit.refusal import Refusal

# A message holds at most this much, well under the wire's 4 MiB.
MESSAGE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch for a subscriber, and where to go on after it."""

    entries: Sequence[Entry]
    resume_token: str


class Subscription:
    """A subscriber as the hub sees it: `offer` puts in, `take` takes out."""

    def __init__(
        self,
        selection: JobSelection | LabelSelection,
        wanted: Collection[int],
        buffer_entries_max: int,
    ) -> None:
        self.selection = selection
        self.stored: StoredPart = (
            StoredJobs(selection, wanted)
            if isinstance(selection, JobSelection)
            else StoredLog(selection, wanted)
        )
        self.is_live = False
        # Loop times: the hub waits a little for those who take, and keeps silent streams alive.
        self.take_time = 0.0
        self.delivery_time = asyncio.get_running_loop().time()
        self._wanted = frozenset(wanted)
        self._limit = buffer_entries_max
        self._buffer: deque[Item] = deque()
        self._missed = False
        self._failure: Refusal | None = None
        self._waiting: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """True while the subscriber has everything."""
        return self.is_live and not self._buffer and self._failure is None

    @property
    def is_half_full(self) -> bool:
        """True when the buffer should drain before more comes."""
        return len(self._buffer) * 2 > self._limit

    def offer(self, entries: Sequence[LogEntry]) -> None:
        """Takes in what is published, as far as it is wanted."""
        for entry in entries:
            if not self.selection.wants(entry):
                continue
            if not self.is_live:
                self._missed = True
                return
            if self.selection.is_behind(entry):
                self.fall_behind()
                return
            self.selection.take(entry)
            if not self._wanted or entry.stored.kind in self._wanted:
                self._buffer.extend(items_of(entry.stored))
        if len(self._buffer) > self._limit:
            self._shrink()
        if self._buffer or self._is_complete():
            self.wake()

    def fall_behind(self) -> None:
        """Back to the store: something was published that this subscriber was not offered."""
        self.is_live, self._missed = False, False
        self.stored.restart()
        self.wake()

    def fail(self, failure: Refusal) -> None:
        """Ends the subscriber's stream; what waits in the buffer is dropped."""
        self._failure = self._failure or failure
        self._buffer.clear()
        self.is_live = False
        self.wake()

    def has_been_silent(self, seconds: float) -> bool:
        """True if nothing went out for so long, and nothing waits."""
        silent_seconds = asyncio.get_running_loop().time() - self.delivery_time
        return self.is_idle and silent_seconds >= seconds

    def wake(self) -> None:
        """Lets `wait` return."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def raise_failure(self) -> None:
        """Raises what `fail` was told, if it was."""
        if self._failure is not None:
            raise self._failure

    def take(self, entries_max: int) -> Delivery | None:
        """What is in the buffer, up to the limits of a message."""
        self.take_time = asyncio.get_running_loop().time()
        items: list[Item] = []
        size_bytes = 0
        while self._buffer and len(items) < entries_max and size_bytes < MESSAGE_BYTES_MAX:
            items.append(self._buffer.popleft())
            size_bytes += items[-1].size_bytes
        return self.deliver(items, last=not self._buffer) if items else None

    def deliver(self, items: Sequence[Item], *, last: bool) -> Delivery:
        """The items as a batch; `last` when there is nothing behind them."""
        self.delivery_time = asyncio.get_running_loop().time()
        for item in items:
            self.selection.sent(item)
        if last:
            self.selection.settle()
        return Delivery([item.entry for item in items], self.selection.resume_token)

    def keepalive(self) -> Delivery:
        """A batch that only says that the stream lives."""
        self.delivery_time = asyncio.get_running_loop().time()
        self.selection.settle()
        return Delivery([keepalive_entry()], self.selection.resume_token)

    def has_read_everything(self) -> bool:
        """After an empty page: goes live, unless something was published since the first one."""
        if self._missed:
            self._missed = False
            self.stored.restart()
            return False
        self.is_live = True
        return True

    async def wait(self) -> None:
        """Returns when there is something to take, or a reason to look up."""
        if not self.is_idle:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def is_finished(self) -> bool:
        """True once every job has ended and all of it was taken out."""
        return not self._buffer and self._is_complete()

    def _is_complete(self) -> bool:
        return self.selection.complete()

    def _shrink(self) -> None:
        self._buffer = deque(coalesce(self._buffer))
        if len(self._buffer) > self._limit:
            last = self.selection.last_sequence
            self.fail(SlowSubscriber(last, self.selection.resume_token))
