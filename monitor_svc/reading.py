"""Reading on from the store until there is nothing left: the stored half of a subscription.

Turns what retention has removed into gap entries. Synchronous: one call is one
page, on a thread of the database.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from monitor_svc.domain import entries as kinds
from monitor_svc.domain.coalescing import Item, gap_item, items_of
from monitor_svc.domain.ports import ReadStore
from monitor_svc.domain.records import Head, JobPage, Trimmed
from monitor_svc.domain.selection import JobSelection, LabelSelection

PAGE_ENTRIES = 512


class StoredPart(Protocol):
    """What is stored of a selection."""

    def read(self, store: ReadStore) -> list[Item]:
        """The next page; an empty one means: all that there was when the call began."""

    def restart(self) -> None:
        """There may be more: look at everything again."""


class StoredJobs:
    """Stored entries of jobs by name, one job after the other."""

    def __init__(self, selection: JobSelection, wanted: Collection[int]) -> None:
        self._selection = selection
        self._wanted = wanted
        self._left: list[str] | None = None

    def restart(self) -> None:
        """Looks at the heads again."""
        self._left = None

    def read(self, store: ReadStore) -> list[Item]:
        """Pages through the jobs that have more than was taken."""
        if self._left is None:
            self._left = self._unread(store.heads(self._selection.taken.keys()))
        while self._left:
            job = self._left[-1]
            after = self._selection.taken[job]
            page = store.read_job(job, after, PAGE_ENTRIES, self._wanted)
            if page.upto >= page.head.last_sequence:
                self._left.pop()
            self._note_end(job, page.head)
            self._selection.advance(job, page.upto)
            items = _items_of_page(job, after, page)
            if items:
                return items
        return []

    def _unread(self, heads: dict[str, Head]) -> list[str]:
        for job, head in heads.items():
            self._note_end(job, head)
        taken = self._selection.taken
        return [job for job, head in heads.items() if head.last_sequence > taken[job]]

    def _note_end(self, job: str, head: Head) -> None:
        if head.terminal_sequence:
            self._selection.terminals[job] = head.terminal_sequence


class StoredLog:
    """Stored entries of jobs by label, in the log's order."""

    def __init__(self, selection: LabelSelection, wanted: Collection[int]) -> None:
        self._selection = selection
        self._wanted = wanted
        self._told_trimmed = False

    def restart(self) -> None:
        """The position says it all."""

    def read(self, store: ReadStore) -> list[Item]:
        """First what is missing, then page by page."""
        after = self._selection.taken
        if not self._told_trimmed:
            self._told_trimmed = True
            gaps = [
                _gap_of(trimmed, after)
                for trimmed in store.trimmed_since(after, self._selection.selector)
            ]
            if gaps:
                return gaps
        page = store.read_log(after, PAGE_ENTRIES, self._selection.selector, self._wanted)
        self._selection.advance(page.upto)
        return [item for entry in page.entries for item in items_of(entry.stored)]


def _items_of_page(job: str, after: int, page: JobPage) -> list[Item]:
    items = [item for stored in page.entries for item in items_of(stored)]
    missing_to = page.head.first_sequence - 1
    if missing_to <= after:
        return items
    gap = kinds.gap_entry(job, kinds.RETENTION, after + 1, missing_to)
    return [gap_item(gap, missing_to, 0), *items]


def _gap_of(trimmed: Trimmed, position: int) -> Item:
    """Which of them the subscriber had is not known any more: the gap names all."""
    gap = kinds.gap_entry(trimmed.job, kinds.RETENTION, 1, trimmed.last_sequence)
    return gap_item(gap, trimmed.last_sequence, position)
