"""Which of the entries that arrived are appended, which stay back, which were there before.

Owns three rules: a stream's cursor only moves forward, and from where it
stood; an entry that names final cursors stays back until they are stored, and
what the scheduler says of the same job afterwards stays behind it; a reader
without the current lease stores nothing. Pure: a store shows a `View`, gets a
`Plan`, and carries it out in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum, auto

from tunewright.wire import names

from monitor_svc.domain import entries as kinds
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import SCHEDULER_KEY, Arrival, Cursor, Held, Labels, Wait

ENTRY_BYTES_MAX = 64 * 1024

# Events of the scheduler upon which a job's labels are read again.
LABEL_EVENTS = frozenset({"LABELS_CHANGED", "JOB_UPDATED"})

StreamKey = tuple[str, str]


class Outcome(Enum):
    """What became of an arrival."""

    STORED = auto()
    # All of it had been stored before.
    DUPLICATE = auto()
    # It does not begin where the stored stream ends: the reader must connect anew.
    MISPLACED = auto()
    # Another monitor reads this source now.
    STALE = auto()


@dataclass
class View:
    """What a plan depends on, as the transaction sees it."""

    epochs: Mapping[str, int] = field(default_factory=dict)
    positions: dict[StreamKey, int] = field(default_factory=dict)
    # By held_id.
    held: Sequence[Held] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry, or only a gap, that is to be appended."""

    job: str
    entry: Entry | None
    gap: Entry | None = None


@dataclass
class Plan:
    """What to write, in order."""

    outcomes: list[Outcome] = field(default_factory=list)
    cursors: dict[StreamKey, Cursor] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    labels: dict[str, Labels] = field(default_factory=dict)
    labels_stale: set[str] = field(default_factory=set)


def streams_needed(arrivals: Iterable[Arrival]) -> set[StreamKey]:
    """The streams whose stored positions a plan for these arrivals depends on."""
    needed = set()
    for arrival in arrivals:
        needed.add((arrival.source, arrival.stream))
        for entry in arrival.entries if arrival.key == SCHEDULER_KEY else ():
            needed.update((wait.source, wait.stream) for wait in _waits(entry))
    return needed


def jobs_named(arrivals: Iterable[Arrival]) -> set[str]:
    """The jobs that the scheduler speaks of in these arrivals."""
    return {
        entry.job
        for arrival in arrivals
        if arrival.key == SCHEDULER_KEY
        for entry in arrival.entries
    }


def changes_labels(entry: Entry) -> bool:
    """True for an event after which the job's labels may be others."""
    return entry.WhichOneof("payload") == "event" and entry.event.type in LABEL_EVENTS


def admit(arrivals: Sequence[Arrival], view: View, expired: Set[int] = frozenset()) -> Plan:
    """The plan for what arrived; held entries in `expired` go out with a gap before them."""
    admission = _Admission(view)
    for arrival in arrivals:
        admission.take(arrival)
    return admission.finish(expired)


class _Admission:
    def __init__(self, view: View) -> None:
        self._view = view
        self._plan = Plan()
        self._held: dict[str, list[Held]] = {}
        for held in view.held:
            self._held.setdefault(held.job, []).append(held)

    def take(self, arrival: Arrival) -> None:
        outcome = self._judge(arrival)
        self._plan.outcomes.append(outcome)
        if outcome in (Outcome.STALE, Outcome.MISPLACED):
            return
        stream = (arrival.source, arrival.stream)
        position = max(self._view.positions.get(stream, 0), arrival.end)
        if outcome is Outcome.STORED or arrival.is_last:
            self._view.positions[stream] = position
            self._plan.cursors[stream] = Cursor(*stream, position, arrival.is_last)
        self._plan.labels.update(arrival.labels)
        if outcome is Outcome.STORED:
            for entry in arrival.entries:
                self._route(entry, from_scheduler=arrival.key == SCHEDULER_KEY)
                if changes_labels(entry) and entry.job not in arrival.labels:
                    self._plan.labels_stale.add(entry.job)

    def finish(self, expired: Set[int]) -> Plan:
        for queue in self._held.values():
            self._release(queue, expired)
            self._plan.held.extend(held for held in queue if held.held_id == 0)
        return self._plan

    def _judge(self, arrival: Arrival) -> Outcome:
        if self._view.epochs.get(arrival.key) != arrival.epoch:
            return Outcome.STALE
        stored = self._view.positions.get((arrival.source, arrival.stream), 0)
        if arrival.end <= stored:
            return Outcome.DUPLICATE
        return Outcome.STORED if arrival.start == stored else Outcome.MISPLACED

    def _route(self, entry: Entry, *, from_scheduler: bool) -> None:
        if kinds.is_keepalive(entry) or not _has_job(entry):
            return
        if not from_scheduler:
            self._draft(entry)
            return
        waits = _waits(entry)
        if self._held.get(entry.job) or not self._stored(waits):
            self._held.setdefault(entry.job, []).append(Held(0, entry.job, entry, waits))
        else:
            self._draft(entry)

    def _release(self, queue: list[Held], expired: Set[int]) -> None:
        while queue:
            first = queue[0]
            complete = self._stored(first.waits)
            if not complete and first.held_id not in expired:
                return
            self._draft(first.entry, None if complete else _lost(first.entry))
            if first.held_id:
                self._plan.released.append(first.held_id)
            queue.pop(0)

    def _stored(self, waits: Iterable[Wait]) -> bool:
        positions = self._view.positions
        return all(positions.get((wait.source, wait.stream), 0) >= wait.position for wait in waits)

    def _draft(self, entry: Entry, gap: Entry | None = None) -> None:
        if kinds.is_gap(entry):
            self._plan.drafts.append(Draft(entry.job, None, entry))
        elif entry.ByteSize() > ENTRY_BYTES_MAX:
            self._plan.drafts.append(Draft(entry.job, None, _too_large(entry)))
        else:
            self._plan.drafts.append(Draft(entry.job, entry, gap))


def _has_job(entry: Entry) -> bool:
    try:
        names.job_id(entry.job)
    except ValueError:
        return False
    return True


def _waits(entry: Entry) -> tuple[Wait, ...]:
    if entry.WhichOneof("payload") != "state_change":
        return ()
    return tuple(
        Wait(cursor.source, cursor.stream, cursor.position)
        for cursor in entry.state_change.final_cursors
    )


def _lost(entry: Entry) -> Entry:
    return kinds.gap_entry(entry.job, kinds.SOURCE_LOST, attempt=entry.attempt, time=entry.time)


def _too_large(entry: Entry) -> Entry:
    return kinds.gap_entry(entry.job, kinds.ENTRY_TOO_LARGE, attempt=entry.attempt, time=entry.time)
