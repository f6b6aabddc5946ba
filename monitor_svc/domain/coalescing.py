"""What a subscriber gets that falls behind: fewer samples, and a gap that names the missing ones.

Only metrics and system samples are left out; a run of them within a job
shrinks to a gap and its newest sample. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from monitor_svc.domain import entries as kinds
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import StoredEntry


@dataclass(frozen=True, slots=True)
class Item:
    """An entry on its way to a subscriber, who has `sequence` and `position` once it has this."""

    job: str
    sequence: int
    position: int
    kind: int
    size_bytes: int
    entry: Entry


def items_of(stored: StoredEntry) -> list[Item]:
    """The entry, and before it the gap, if there is one."""
    item = Item(
        stored.job,
        stored.sequence,
        stored.position,
        stored.kind,
        stored.size_bytes,
        stored.entry,
    )
    if stored.gap is None:
        return [item]
    return [gap_item(stored.gap, stored.sequence - 1, stored.position - 1), item]


def gap_item(gap: Entry, sequence: int, position: int) -> Item:
    """A gap on its way to a subscriber."""
    return Item(gap.job, sequence, position, kinds.NO_KIND, gap.ByteSize(), gap)


def coalesce(items: Iterable[Item]) -> list[Item]:
    """The same with each job's runs of three samples or more cut to a gap and the newest one."""
    runs: dict[str, list[int]] = {}
    finished: list[list[int]] = []
    buffered = list(items)
    for index, item in enumerate(buffered):
        if item.kind in kinds.SAMPLES or _is_slow_gap(item):
            runs.setdefault(item.job, []).append(index)
        elif item.job in runs:
            finished.append(runs.pop(item.job))
    left_out: set[int] = set()
    for run in [*finished, *runs.values()]:
        if len(run) >= 3:
            # The gap stands where the first missing one stood, so that a reader
            # who stops in between has been told.
            buffered[run[0]] = _gap_over(buffered[run[0]], buffered[run[-2]])
            left_out.update(run[1:-1])
    return [item for index, item in enumerate(buffered) if index not in left_out]


def _is_slow_gap(item: Item) -> bool:
    return kinds.is_gap(item.entry) and item.entry.gap.reason == kinds.SLOW_SUBSCRIBER


def _gap_over(first: Item, last: Item) -> Item:
    begin = first.entry.gap.first_sequence if _is_slow_gap(first) else first.sequence
    gap = kinds.gap_entry(
        first.job,
        kinds.SLOW_SUBSCRIBER,
        begin,
        last.sequence,
        attempt=last.entry.attempt,
        time=last.entry.time,
    )
    return replace(
        gap_item(gap, last.sequence, first.position),
        # The position stays the first one's: others' entries in between are still to come.
        position=first.position,
    )
