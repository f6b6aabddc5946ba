"""The monitor's store in memory: for tests and simulations, by the same rules as the SQL one.

One lock makes every method a transaction; everything is gone with the process.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from monitor_svc.domain import admission
from monitor_svc.domain import entries as kinds
from monitor_svc.domain.admission import Draft, Outcome, Plan, StreamKey, View
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import (
    Appended,
    Arrival,
    Cursor,
    Head,
    Held,
    JobPage,
    Labels,
    LogEntry,
    LogPage,
    Retention,
    Source,
    StoredEntry,
    Trimmed,
)
from monitor_svc.domain.selection import matches


@dataclass
class _Job:
    first: int = 1
    terminal: int = 0
    trimmed_position: int = 0
    append_time: float = 0.0
    labels: Labels | None = None
    labels_stale: bool = True
    pending_gap: Entry | None = None
    entries: list[StoredEntry] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1


class MemoryStore:
    """See monitor_svc.domain.ports.Store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {}
        self._cursors: dict[StreamKey, Cursor] = {}
        self._jobs: dict[str, _Job] = {}
        self._held: list[Held] = []
        self._held_id = 0
        self._position = 0

    def know(self, addresses: Mapping[str, str]) -> None:
        """Inserts or updates each source."""
        with self._lock:
            for key, address in addresses.items():
                known = self._sources.get(key, Source(key, address))
                self._sources[key] = replace(known, address=address)

    def sources(self) -> list[Source]:
        """All, by key."""
        with self._lock:
            return [self._sources[key] for key in sorted(self._sources)]

    def beat(self, instance: str) -> list[Source]:
        """Lets the beats grow."""
        with self._lock:
            for key, source in self._sources.items():
                if source.holder == instance:
                    self._sources[key] = replace(source, beat=source.beat + 1)
        return self.sources()

    def claim(self, seen: Source, instance: str, name: str, epoch_min: int) -> int | None:
        """Guarded by epoch and beat."""
        epoch = max(seen.epoch + 1, epoch_min)
        with self._lock:
            current = self._sources.get(seen.key)
            if current is None or (current.epoch, current.beat) != (seen.epoch, seen.beat):
                return None
            self._sources[seen.key] = replace(
                current, holder=instance, holder_name=name, epoch=epoch, beat=0
            )
            return epoch

    def give_back(self, instance: str) -> None:
        """Frees what the process holds."""
        with self._lock:
            for key, source in self._sources.items():
                if source.holder == instance:
                    self._sources[key] = replace(source, holder="")

    def bind(self, key: str, epoch: int, source: str) -> bool:
        """Guarded by the epoch."""
        with self._lock:
            known = self._sources.get(key)
            if known is None or known.epoch != epoch:
                return False
            self._sources[key] = replace(known, source=source)
            return True

    def cursors(self, source: str, ended_max: int) -> list[Cursor]:
        """Open ones, and the last of the ended ones."""
        with self._lock:
            mine = [cursor for cursor in self._cursors.values() if cursor.source == source]
            ended = [cursor for cursor in mine if cursor.ended]
            kept = [cursor for cursor in mine if not cursor.ended] + ended[-ended_max:]
            return sorted(kept, key=lambda cursor: cursor.stream)

    def append(self, arrivals: Sequence[Arrival], now: float) -> tuple[list[Outcome], Appended]:
        """Decides and writes."""
        with self._lock:
            epochs = {key: source.epoch for key, source in self._sources.items()}
            plan = admission.admit(arrivals, View(epochs, self._positions(), list(self._held)))
            return plan.outcomes, self._carry_out(plan, now)

    def release_held(self, key: str, epoch: int, expired: Set[int], now: float) -> Appended | None:
        """The same with nothing new."""
        with self._lock:
            if key not in self._sources or self._sources[key].epoch != epoch:
                return None
            view = View({}, self._positions(), list(self._held))
            return self._carry_out(admission.admit((), view, expired), now)

    def held(self) -> list[Held]:
        """All, oldest first."""
        with self._lock:
            return list(self._held)

    def set_labels(self, job: str, labels: Labels) -> None:
        """In place, or as the first time."""
        with self._lock:
            self._learn(job, labels)

    def jobs_without_labels(self, limit: int) -> list[str]:
        """Oldest change first."""
        with self._lock:
            stale = [name for name, job in self._jobs.items() if job.labels_stale]
            return sorted(stale, key=lambda name: self._jobs[name].append_time)[:limit]

    def trim(self, retention: Retention, now: float, jobs_max: int) -> int:
        """Jobs with too many entries, then jobs that have been silent for too long."""
        with self._lock:
            removed = 0
            for job in list(self._jobs.values())[:jobs_max]:
                removed += _trim(job, retention, now)
            return removed

    def position(self) -> int:
        """The clock."""
        with self._lock:
            return self._position

    def heads(self, jobs: Collection[str]) -> dict[str, Head]:
        """Those that there are."""
        with self._lock:
            return {name: _head(self._jobs[name]) for name in jobs if name in self._jobs}

    def read_job(self, job: str, after: int, limit: int, kinds: Collection[int] = ()) -> JobPage:
        """By sequence."""
        with self._lock:
            known = self._jobs.get(job, _Job())
            start = max(0, after - known.first + 1)
            found = [entry for entry in known.entries[start:] if not kinds or entry.kind in kinds][
                :limit
            ]
            full = len(found) == limit
            upto = found[-1].sequence if full else max(after, known.last)
            return JobPage(_head(known), found, upto)

    def read_log(
        self,
        after: int,
        limit: int,
        selector: Labels | None = None,
        kinds: Collection[int] = (),
    ) -> LogPage:
        """By position."""
        with self._lock:
            found = [
                LogEntry(entry, job.labels)
                for job in self._jobs.values()
                if selector is None or matches(selector, job.labels)
                for entry in _after_position(job.entries, after)
                if not kinds or entry.kind in kinds
            ]
            found.sort(key=lambda entry: entry.stored.position)
            del found[limit:]
            full = len(found) == limit
            upto = found[-1].stored.position if full else max(after, self._position)
            return LogPage(found, upto)

    def trimmed_since(self, position: int, selector: Labels) -> list[Trimmed]:
        """By the position of the last entry that was removed."""
        with self._lock:
            return [
                Trimmed(name, job.first - 1)
                for name, job in self._jobs.items()
                if job.trimmed_position > position and matches(selector, job.labels)
            ]

    def start_of_tail(self, job: str, kind: int, count: int) -> int:
        """Just before the `count`-th last one."""
        with self._lock:
            known = self._jobs.get(job, _Job())
            lines = [entry.sequence for entry in known.entries if entry.kind == kind]
            return lines[-count] - 1 if len(lines) >= count else 0

    def _positions(self) -> dict[StreamKey, int]:
        return {stream: cursor.position for stream, cursor in self._cursors.items()}

    def _carry_out(self, plan: Plan, now: float) -> Appended:
        for name, labels in plan.labels.items():
            self._learn(name, labels)
        previous = self._position
        appended = self._append_drafts(plan.drafts, now)
        for stream, cursor in plan.cursors.items():
            self._cursors.pop(stream, None)  # the latest stands last
            self._cursors[stream] = cursor
        self._held = [held for held in self._held if held.held_id not in plan.released]
        for held in plan.held:
            self._held_id += 1
            self._held.append(replace(held, held_id=self._held_id))
        for name in plan.labels_stale & self._jobs.keys():
            self._jobs[name].labels_stale = True
        return Appended(previous, self._position, appended)

    def _append_drafts(self, drafts: Sequence[Draft], now: float) -> list[LogEntry]:
        appended = []
        for name in Counter(draft.job for draft in drafts):
            self._jobs.setdefault(name, _Job()).append_time = now
        for draft in drafts:
            job = self._jobs[draft.job]
            job.pending_gap = draft.gap or job.pending_gap
            if draft.entry is None:
                continue
            self._position += 1
            stored = _stored(draft.entry, job.last + 1, self._position, job.pending_gap)
            job.pending_gap = None
            job.entries.append(stored)
            if kinds.is_terminal(draft.entry) and not job.terminal:
                job.terminal = stored.sequence
            appended.append(LogEntry(stored, job.labels))
        return appended

    def _learn(self, name: str, labels: Labels) -> None:
        job = self._jobs.setdefault(name, _Job())
        if job.labels is None:
            job.entries = [
                replace(entry, position=self._position + index)
                for index, entry in enumerate(job.entries, 1)
            ]
            self._position += len(job.entries)
        job.labels, job.labels_stale = dict(labels), False


def _stored(entry: Entry, sequence: int, position: int, gap: Entry | None) -> StoredEntry:
    kept = Entry()
    kept.CopyFrom(entry)
    kept.sequence = sequence
    return StoredEntry(
        entry.job, sequence, position, kinds.kind_of(entry), kept.ByteSize(), kept, gap
    )


def _head(job: _Job) -> Head:
    return Head(job.first, job.last, job.terminal)


def _after_position(entries: list[StoredEntry], position: int) -> list[StoredEntry]:
    return entries[bisect_right(entries, position, key=lambda entry: entry.position) :]


def _trim(job: _Job, retention: Retention, now: float) -> int:
    goes = 0
    if retention.entries_per_job_max:
        goes = max(0, len(job.entries) - retention.entries_per_job_max)
    if retention.idle_seconds_max and job.append_time < now - retention.idle_seconds_max:
        goes = len(job.entries)
    if goes:
        job.trimmed_position = job.entries[goes - 1].position
        del job.entries[:goes]
        job.first += goes
    return goes
