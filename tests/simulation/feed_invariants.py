"""What must hold of feeds: nothing lost, nothing doubled, one order for everybody.

See invariants.py, which puts them all together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from scheduler_svc.domain.states import TERMINAL
from tests.simulation.history import Event, Finding


def sequences_have_no_gap(events: Sequence[Event]) -> Iterator[Finding]:
    """Each subscriber gets 1, 2, 3, ...; what is missing was said in a gap entry."""
    last: dict[tuple[str, str], int] = {}
    for index, event in enumerate(events):
        at = (event.place, event.job)
        if event.kind == "gap" and event.value:
            if int(event.source) > last.get(at, 0) + 1:
                yield index, f"{event.place} was told of a gap too late"
            last[at] = max(last.get(at, 0), event.value)
        elif event.kind == "delivered":
            if event.value != last.get(at, 0) + 1:
                yield index, f"{event.place} had {last.get(at, 0)}, then got {event.value}"
            last[at] = event.value


def all_subscribers_see_the_same(events: Sequence[Event]) -> Iterator[Finding]:
    """A sequence names one entry, for everybody and in the store."""
    said: dict[tuple[str, int], str] = {}
    for index, event in enumerate(events):
        if event.kind not in ("delivered", "stored"):
            continue
        text = f"{event.attempt} {event.note}"
        if said.setdefault((event.job, event.value), text) != text:
            yield index, f"jobs/{event.job} {event.value} is {text!r} and was another"


def subscribers_get_everything(events: Sequence[Event]) -> Iterator[Finding]:
    """In the end each subscriber has what the store has."""
    last: dict[tuple[str, str], tuple[int, int]] = {}
    stored: dict[str, int] = {}
    for index, event in enumerate(events):
        if event.kind == "subscribed":
            last.setdefault((event.place, event.job), (0, index))
        elif event.kind in ("delivered", "gap") and event.value:
            last[(event.place, event.job)] = (event.value, index)
        elif event.kind == "stored":
            stored[event.job] = max(stored.get(event.job, 0), event.value)
    for (place, job), (had, index) in last.items():
        if had < stored.get(job, 0):
            yield index, f"{place} has {had} of {stored[job]} entries of jobs/{job}"


def the_feed_is_whole(events: Sequence[Event]) -> Iterator[Finding]:
    """What the scheduler committed is in the monitor once, in the order of the commits."""
    written: dict[str, list[str]] = defaultdict(list)
    stored: dict[str, list[str]] = defaultdict(list)
    where: dict[str, int] = {}
    for index, event in enumerate(events):
        if event.kind == "feed":
            written[event.job].append(event.note)
            where.setdefault(event.job, index)
        elif event.kind == "stored" and event.source == "scheduler":
            stored[event.job].append(event.note)
    for job, expected in written.items():
        if stored[job] != expected:
            yield where[job], f"jobs/{job}: {len(expected)} events, {len(stored[job])} stored"


def no_line_is_lost_or_doubled(events: Sequence[Event]) -> Iterator[Finding]:
    """What a child wrote, and a crash of its host did not take, is in the monitor once."""
    stored: dict[tuple[str, int, str], int] = defaultdict(int)
    gaps = {event.job for event in events if event.kind == "stored_gap"}
    for index, event in enumerate(events):
        if event.kind == "stored" and event.note.startswith("metrics"):
            key = (event.job, event.attempt, event.note)
            stored[key] += 1
            if stored[key] > 1:
                yield index, f"jobs/{event.job}: {event.note} is stored twice"
    for index, event in enumerate(events):
        if event.kind != "line" or not event.note.startswith("metrics") or event.job in gaps:
            continue
        if not stored[(event.job, event.attempt, event.note)]:
            yield index, f"jobs/{event.job}/{event.attempt}: {event.note} is not stored"


def the_end_comes_last(events: Sequence[Event]) -> Iterator[Finding]:
    """No metric of the attempt that ended a job comes after the job's end."""
    ends: dict[str, Event] = {}
    gaps = {event.job for event in events if event.kind == "stored_gap"}
    terminal = {f"state {state.value}" for state in TERMINAL}
    reported = {(event.job, event.attempt) for event in events if event.kind == "end_was_reported"}
    for index, event in enumerate(events):
        if event.kind != "stored":
            continue
        if event.note in terminal:
            ends.setdefault(event.job, event)
        end = ends.get(event.job)
        if end is None or not event.note.startswith("metrics") or event.job in gaps:
            continue
        if event.attempt == end.attempt and (event.job, end.attempt) in reported:
            yield index, f"jobs/{event.job}: {event.note} after {end.note}"


def removed_jobs_were_told(events: Sequence[Event]) -> Iterator[Finding]:
    """A job is removed only after a monitor has the last that was said of it."""
    told = {event.job for event in events if event.kind == "stored" and "DELETED" in event.note}
    for index, event in enumerate(events):
        if event.kind == "removed" and event.job not in told:
            yield index, f"jobs/{event.job} is removed, and no monitor has its last event"
