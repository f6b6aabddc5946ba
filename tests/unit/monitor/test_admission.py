"""Which entries are appended, which stay back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor_svc.domain.admission import Outcome, Plan, View, admit
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import SCHEDULER_KEY, Arrival, Held, Wait
from tests.unit.monitor.made_entries import created, event, metrics, succeeded

JOB = "jobs/a"
EPOCHS = {SCHEDULER_KEY: 1, "trainers/t": 1}


def spool(start: int, count: int, epoch: int = 1) -> Arrival:
    entries = [metrics(JOB, start + n) for n in range(count)]
    return Arrival("trainers/t", epoch, "w", "spool", start, start + count, entries)


def events(start: int, *entries: Entry) -> Arrival:
    return Arrival(SCHEDULER_KEY, 1, "db", "events", start, start + len(entries), entries)


def steps(plan: Plan) -> list[int]:
    return [d.entry.train_metrics.step for d in plan.drafts if d.entry is not None]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=30))
def test_whatever_arrives_a_stream_is_stored_in_order_and_once(
    batches: list[tuple[int, int]],
) -> None:
    view = View(EPOCHS)
    taken: list[int] = []

    for start, count in batches:
        plan = admit([spool(start, count)], view)
        taken += steps(plan)

    assert taken == list(range(len(taken)))
    assert view.positions.get(("w", "spool"), 0) == len(taken)


def test_a_misplaced_batch_stops_those_behind_it() -> None:
    plan = admit([spool(0, 2), spool(5, 2), spool(7, 2), spool(2, 1)], View(EPOCHS))

    assert plan.outcomes == [
        Outcome.STORED,
        Outcome.MISPLACED,
        Outcome.MISPLACED,
        Outcome.STORED,
    ]
    assert steps(plan) == [0, 1, 2]


def test_without_the_current_lease_nothing_is_planned() -> None:
    plan = admit([spool(0, 2, epoch=0)], View(EPOCHS))

    assert plan.outcomes == [Outcome.STALE]
    assert not plan.drafts
    assert not plan.cursors


def test_only_the_job_that_waits_is_held() -> None:
    end = succeeded(JOB, ("w", "spool", 2))
    arrivals = [events(0, end, event(JOB), created("jobs/b")), spool(0, 1)]

    plan = admit(arrivals, View(EPOCHS))

    assert [draft.job for draft in plan.drafts] == ["jobs/b", JOB]
    assert [held.entry for held in plan.held] == [end, event(JOB)]


def test_an_expired_entry_lets_through_what_stood_behind_it() -> None:
    end = succeeded(JOB, ("w", "spool", 2))
    held = [
        Held(1, JOB, end, (Wait("w", "spool", 2),)),
        Held(2, JOB, event(JOB)),
        Held(3, "jobs/b", succeeded("jobs/b", ("w", "b", 1)), (Wait("w", "b", 1),)),
    ]

    plan = admit((), View({}, {}, held), expired={1})

    assert plan.released == [1, 2]
    assert [draft.gap is not None for draft in plan.drafts] == [True, False]


def test_entries_without_a_job_are_passed_over() -> None:
    plan = admit([events(0, event(""), event("trainers/x"), event(JOB))], View(EPOCHS))

    assert [draft.job for draft in plan.drafts] == [JOB]
    assert plan.cursors["db", "events"].position == 3
