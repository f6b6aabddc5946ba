"""What must hold in every schedule: each invariant is one function over the history.

Owns the judgement and nothing else: it never looks at a node. A function yields
a violation for each event that must not be; how the records stood when the
schedule had settled is at the history's end, as `final_*` events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from scheduler_svc.domain.fleet import TrainerState
from scheduler_svc.domain.states import MOVES, TERMINAL, WITH_ATTEMPT, JobState
from tests.simulation.feed_invariants import (
    all_subscribers_see_the_same,
    no_line_is_lost_or_doubled,
    removed_jobs_were_told,
    sequences_have_no_gap,
    subscribers_get_everything,
    the_end_comes_last,
    the_feed_is_whole,
)
from tests.simulation.history import Event, Finding


class Violation(NamedTuple):
    """Which invariant was broken, by which event (its place in the history)."""

    invariant: str
    at: int
    text: str


Invariant = Callable[[Sequence[Event]], Iterator[Finding]]

_STATES = {state.value: state for state in JobState}


def acknowledged_jobs_stay(events: Sequence[Event]) -> Iterator[Finding]:
    """A job that was acknowledged is in the database to the end, unless somebody deleted it."""
    acknowledged: dict[str, int] = {}
    deleted = set()
    for index, event in enumerate(events):
        if event.kind == "acknowledged":
            acknowledged.setdefault(event.job, index)
        elif event.kind in ("asked", "steered") and event.note == "DeleteJob":
            deleted.add(event.job)
        elif event.kind == "removed" and event.job in acknowledged and event.job not in deleted:
            yield index, f"jobs/{event.job} was acknowledged, and is gone"
    there = {event.job for event in events if event.kind == "final_job"}
    for job, index in acknowledged.items():
        if job not in there and job not in deleted:
            yield index, f"jobs/{job} was acknowledged, and is not in the database"


def one_job_for_one_request(events: Sequence[Event]) -> Iterator[Finding]:
    """The same request_id is always answered with the same job."""
    jobs: dict[str, str] = {}
    for index, event in enumerate(events):
        if event.kind == "acknowledged" and jobs.setdefault(event.note, event.job) != event.job:
            yield index, f"request {event.note} made {jobs[event.note]} and {event.job}"


def moves_are_in_the_table(events: Sequence[Event]) -> Iterator[Finding]:
    """Every change of a state is a move of MOVES."""
    for index, event in enumerate(events):
        if event.kind != "committed" or not event.source or event.source == event.state:
            continue
        source, target = _STATES[event.source], _STATES[event.state]
        # One transaction may make two moves.
        direct = target in MOVES[source]
        if not direct and not any(target in MOVES[between] for between in MOVES[source]):
            yield index, f"jobs/{event.job} went from {source.name} to {target.name}"


def terminal_states_never_change(events: Sequence[Event]) -> Iterator[Finding]:
    """What is final stays as it is, attempt included."""
    final: dict[str, Event] = {}
    for index, event in enumerate(events):
        if event.kind != "committed":
            continue
        before = final.get(event.job)
        if before and (before.state, before.attempt) != (event.state, event.attempt):
            yield index, f"jobs/{event.job} was {before.state}, attempt {before.attempt}"
        if _STATES[event.state] in TERMINAL:
            final.setdefault(event.job, event)


def attempts_only_grow(events: Sequence[Event]) -> Iterator[Finding]:
    """By one, and only on the way from QUEUED to STARTING."""
    latest: dict[str, Event] = {}
    for index, event in enumerate(events):
        if event.kind != "committed":
            continue
        before = latest.get(event.job)
        known = before.attempt if before else 0
        if event.attempt not in (known, known + 1):
            yield index, f"jobs/{event.job} went from attempt {known} to {event.attempt}"
        if event.attempt == known + 1 and before and before.state != JobState.QUEUED:
            yield index, f"jobs/{event.job} got attempt {event.attempt} while {before.state}"
        latest[event.job] = event


def cancelled_was_not_overwritten(events: Sequence[Event]) -> Iterator[Finding]:
    """A cancel that was answered with CANCELLED or CANCELLING ends in CANCELLED."""
    promised: dict[str, int] = {}
    on_its_way = (JobState.CANCELLED, JobState.CANCELLING)
    for index, event in enumerate(events):
        if event.kind == "steered" and event.note == "CancelJob" and event.state in on_its_way:
            promised[event.job] = index
        elif event.kind == "final_job" and event.job in promised and event.state not in on_its_way:
            yield promised[event.job], f"jobs/{event.job} ended {event.state} all the same"


def one_attempt_publishes(events: Sequence[Event]) -> Iterator[Finding]:
    """A job's result, and a folder, appear once; and only with the grant."""
    by_job: dict[str, int] = {}
    folders: set[str] = set()
    granted: set[tuple[str, int]] = set()
    for index, event in enumerate(events):
        if event.kind == "committed" and event.state == JobState.PUBLISHING:
            granted.add((event.job, event.attempt))
        if event.kind != "published":
            continue
        if event.job in by_job:
            yield index, f"jobs/{event.job}: attempts {by_job[event.job]} and {event.attempt}"
        if event.note in folders:
            yield index, f"{event.note} was published twice"
        if (event.job, event.attempt) not in granted:
            yield index, f"jobs/{event.job} attempt {event.attempt} published without the grant"
        by_job[event.job] = event.attempt
        folders.add(event.note)


def success_means_published(events: Sequence[Event]) -> Iterator[Finding]:
    """A job is SUCCEEDED only when its result stands."""
    published: set[tuple[str, int]] = set()
    for index, event in enumerate(events):
        if event.kind == "published":
            published.add((event.job, event.attempt))
            continue
        succeeded = event.kind == "committed" and event.state == JobState.SUCCEEDED
        if succeeded and (event.job, event.attempt) not in published:
            yield index, f"jobs/{event.job} SUCCEEDED, and nothing is published"


def absence_stops_no_run(events: Sequence[Event]) -> Iterator[Finding]:
    """A run is told to stop only if the record had, at some time, a reason for it."""
    reasons: set[tuple[str, int]] = set()
    newest_on: dict[tuple[str, str], int] = {}
    stopping = (JobState.CANCELLING, JobState.PAUSING)
    for index, event in enumerate(events):
        if event.kind == "committed":
            reasons.update((event.job, older) for older in range(1, event.attempt))
            if event.state in stopping or "ended" in event.note or "timed_out" in event.note:
                reasons.add((event.job, event.attempt))
        elif event.kind == "tree_started":
            place = (event.place, event.job)
            newest_on[place] = max(newest_on.get(place, 0), event.attempt)
        elif event.kind == "stop_written":
            newer_here = newest_on.get((event.place, event.job), 0) > event.attempt
            if (event.job, event.attempt) not in reasons and not newer_here:
                yield index, f"jobs/{event.job} attempt {event.attempt} had to stop for nothing"


def attempts_grow_on_each_host(events: Sequence[Event]) -> Iterator[Finding]:
    """No host starts an attempt after a later one of the same job."""
    newest: dict[tuple[str, str], int] = {}
    for index, event in enumerate(events):
        if event.kind == "tree_started":
            place = (event.place, event.job)
            if event.attempt < newest.get(place, 0):
                yield index, f"{event.place} started attempt {event.attempt} late"
            newest[place] = max(newest.get(place, 0), event.attempt)


def no_two_runs_share_a_slot(events: Sequence[Event]) -> Iterator[Finding]:
    """Physically: a GPU has one run's processes, and CPU slots as many as there are."""
    living: dict[str, dict[int, Event]] = defaultdict(dict)
    cpu_slots: dict[str, int] = {}
    for index, event in enumerate(events):
        if event.kind == "host":
            cpu_slots[event.place] = event.value
        elif event.kind == "tree_ended":
            living[event.place].pop(event.value, None)
        elif event.kind == "tree_started":
            others = living[event.place]
            yield from _sharing(index, event, list(others.values()), cpu_slots)
            others[event.value] = event


def _sharing(
    index: int, event: Event, others: list[Event], cpu_slots: dict[str, int]
) -> Iterator[Finding]:
    own = (event.job, event.attempt)
    strangers = [one for one in others if (one.job, one.attempt) != own]
    if event.note:
        mine = set(event.note.split(","))
        for one in strangers:
            shared = sorted(mine & set(one.note.split(",")))
            if shared:
                yield index, f"GPU {shared} of {event.place} is held by jobs/{one.job} too"
        return
    holders = {(one.job, one.attempt) for one in strangers if not one.note}
    if len(holders) >= cpu_slots[event.place]:
        yield index, f"{event.place} has {cpu_slots[event.place]} CPU slots, all taken"


def stopped_means_gone(events: Sequence[Event]) -> Iterator[Finding]:
    """CANCELLED and PAUSED are said once the attempt's tree is gone, or as unconfirmed."""
    living: set[tuple[str, int, int]] = set()
    for index, event in enumerate(events):
        if event.kind == "tree_started":
            living.add((event.job, event.attempt, event.value))
        elif event.kind == "tree_ended":
            living.discard((event.job, event.attempt, event.value))
        elif event.kind == "committed" and event.state in (JobState.CANCELLED, JobState.PAUSED):
            came_from = _STATES.get(event.source)
            if came_from not in WITH_ATTEMPT or "unconfirmed" in event.note:
                continue
            if any(tree[:2] == (event.job, event.attempt) for tree in living):
                yield index, f"jobs/{event.job} is {event.state}, and its processes live"


def the_older_goes_first(events: Sequence[Event]) -> Iterator[Finding]:
    """Of two jobs with one requirement, the one that is due first is placed first."""
    born: dict[str, tuple[str, str]] = {}
    queued: dict[str, Event] = {}
    for index, event in enumerate(events):
        if event.kind == "created":
            time, _, requirement = event.note.partition(" ")
            born[event.job] = (time, requirement)
        if event.kind != "committed":
            continue
        if event.state == JobState.QUEUED:
            queued[event.job] = event
            continue
        queued.pop(event.job, None)
        if event.state == JobState.STARTING and event.source == JobState.QUEUED:
            yield from _overtaken(index, event, queued, born, events)


def _overtaken(
    index: int,
    event: Event,
    queued: dict[str, Event],
    born: dict[str, tuple[str, str]],
    events: Sequence[Event],
) -> Iterator[Finding]:
    own = (-event.value, born[event.job][0], event.job)
    at_once = {
        one.job
        for one in events[index + 1 : index + 40]
        if one.time == event.time and one.kind == "committed" and one.state != JobState.QUEUED
    }
    for job, waiting in queued.items():
        before = (-waiting.value, born[job][0], job) < own
        same = born[job][1] == born[event.job][1]
        if same and before and waiting.time < event.time and job not in at_once:
            yield index, f"jobs/{event.job} was placed before jobs/{job}"


def every_job_ends(events: Sequence[Event]) -> Iterator[Finding]:
    """Once faults have stopped: nothing hangs, and nobody starves."""
    for index, event in enumerate(events):
        if event.kind == "final_job" and event.note not in ("ended", "waits for a person"):
            yield index, f"jobs/{event.job} is {event.state} for ever: {event.note}"
        if event.kind == "unsettled":
            yield index, event.note


def no_slot_leaks(events: Sequence[Event]) -> Iterator[Finding]:
    """No record holds a slot for processes that are gone."""
    for index, event in enumerate(events):
        if event.kind == "final_slot":
            yield index, f"{event.place}: a slot is held by jobs/{event.job}/{event.attempt}"


def no_old_run_lives_on(events: Sequence[Event]) -> Iterator[Finding]:
    """After contact and grace no process works for an attempt that was given away."""
    for index, event in enumerate(events):
        if event.kind == "final_tree":
            yield index, f"{event.place}: jobs/{event.job}/{event.attempt} still runs"


def every_trainer_is_heard(events: Sequence[Event]) -> Iterator[Finding]:
    """In the end each host that is left takes work from the scheduler that is there."""
    for index, event in enumerate(events):
        if event.kind == "final_trainer" and event.state != TrainerState.READY:
            yield index, f"{event.place} is {event.state}"


def production_makes_no_mistake(events: Sequence[Event]) -> Iterator[Finding]:
    """No unhandled error, no loop that dies, nothing logged as an error."""
    for index, event in enumerate(events):
        if event.kind == "problem":
            yield index, event.note


PHYSICAL: tuple[Invariant, ...] = (
    absence_stops_no_run,
    no_two_runs_share_a_slot,
    every_trainer_is_heard,
    production_makes_no_mistake,
)
"""What holds even if somebody puts an older or an empty database in place."""

INVARIANTS: tuple[Invariant, ...] = (
    acknowledged_jobs_stay,
    one_job_for_one_request,
    moves_are_in_the_table,
    terminal_states_never_change,
    attempts_only_grow,
    cancelled_was_not_overwritten,
    one_attempt_publishes,
    success_means_published,
    attempts_grow_on_each_host,
    stopped_means_gone,
    the_older_goes_first,
    every_job_ends,
    no_slot_leaks,
    no_old_run_lives_on,
    sequences_have_no_gap,
    all_subscribers_see_the_same,
    subscribers_get_everything,
    the_feed_is_whole,
    removed_jobs_were_told,
    no_line_is_lost_or_doubled,
    the_end_comes_last,
    *PHYSICAL,
)


def check(events: Sequence[Event]) -> list[Violation]:
    """Every violation, the earliest first."""
    restored = any(event.kind == "restored" for event in events)
    found = [
        Violation(invariant.__name__, index, text)
        for invariant in (PHYSICAL if restored else INVARIANTS)
        for index, text in invariant(events)
    ]
    return sorted(found, key=lambda one: one.at)
