"""The verbs: what they do in each state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from scheduler_svc.application.jobs import JobEdit, Jobs
from scheduler_svc.application.ports import Guard
from scheduler_svc.domain.errors import ForbiddenMove, JobNotFound, NotEnded
from scheduler_svc.domain.failure import FailureCause
from scheduler_svc.domain.job import Job, JobId, JobView
from scheduler_svc.domain.query import JobQuery
from scheduler_svc.domain.run import StopMode
from scheduler_svc.domain.states import JobState
from scheduler_svc.storage.memory_store import MemoryStore, MemoryWriting
from svckit.refusal import DatabaseBusy
from tests.unit.scheduler.builders import running
from tests.unit.scheduler.world import World, completed, failed, published, runs, stopped

S = JobState
Verb = Callable[[Jobs, JobId], JobView]

VERBS: dict[str, tuple[Verb, dict[JobState, JobState]]] = {
    "start": (Jobs.start, {S.HELD: S.QUEUED, S.QUEUED: S.QUEUED}),
    "resume": (Jobs.resume, {S.PAUSED: S.QUEUED, S.QUEUED: S.QUEUED}),
    "pause": (
        Jobs.pause,
        {
            S.QUEUED: S.PAUSED,
            S.RECOVERING: S.PAUSED,
            S.STARTING: S.PAUSING,
            S.RUNNING: S.PAUSING,
            S.PAUSING: S.PAUSING,
            S.PAUSED: S.PAUSED,
        },
    ),
    "cancel": (
        Jobs.cancel,
        {
            S.HELD: S.CANCELLED,
            S.QUEUED: S.CANCELLED,
            S.RECOVERING: S.CANCELLED,
            S.PAUSED: S.CANCELLED,
            S.STARTING: S.CANCELLING,
            S.RUNNING: S.CANCELLING,
            S.PAUSING: S.CANCELLING,
            S.CANCELLING: S.CANCELLING,
            S.CANCELLED: S.CANCELLED,
        },
    ),
    "abandon": (Jobs.abandon, {S.PUBLISHING: S.FAILED}),
}


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_moves_a_job_or_is_refused_naming_both_states(verb: str, state: JobState) -> None:
    world = World()
    with world.store.write() as tx:
        tx.insert_job(running("x", state))
    call, leads = VERBS[verb]

    if state in leads:
        view = call(world.scheduler.jobs, JobId("x"))
        assert view.job.state is leads[state] is world.state(JobId("x"))
        moves = [entry for entry in world.entries() if entry.HasField("state_change")]
        assert len(moves) == (leads[state] is not state)
        return
    with pytest.raises(ForbiddenMove) as caught:
        call(world.scheduler.jobs, JobId("x"))
    assert caught.value.metadata["state"] == state.value
    assert caught.value.metadata["target"].startswith("JOB_STATE_")
    assert state.value.removeprefix("JOB_STATE_") in caught.value.message
    assert world.entries() == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_names_the_missing_job(verb: str) -> None:
    with pytest.raises(JobNotFound, match="jobs/none"):
        VERBS[verb][0](World().scheduler.jobs, JobId("none"))


def test_a_cancelled_run_is_cancelled_once_it_is_gone() -> None:
    world = World()
    job_id = world.started()

    world.scheduler.jobs.cancel(job_id)
    order = world.scheduler.orders.stop_of(job_id)
    orders = [world.beat("a", runs(job_id)).stops for _ in range(2)]
    ended = world.beat("a", stopped(job_id))

    assert order is not None
    assert (order.trainer_id, order.order.mode) == ("a", StopMode.CANCEL)
    assert [[one.mode for one in stops] for stops in orders] == [[StopMode.CANCEL]] * 2
    assert (ended.stops, [key.job_id for key in ended.acknowledged_runs]) == ((), [job_id])
    assert world.state(job_id) is S.CANCELLED
    assert world.scheduler.orders.stop_of(job_id) is None


def test_a_paused_run_goes_on_in_a_new_attempt_that_resumes() -> None:
    world = World()
    job_id = world.started()

    world.scheduler.jobs.pause(job_id)
    [order] = world.beat("a", runs(job_id)).stops
    world.report(stopped(job_id))
    world.scheduler.jobs.resume(job_id)
    [delivery] = world.scheduler.dispatch.run()

    assert order.mode is StopMode.PAUSE
    assert (delivery.assignment.key.attempt, delivery.assignment.resume) == (2, True)
    expected = ["QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "QUEUED", "STARTING"]
    assert world.path(job_id) == expected


def test_a_run_that_finishes_before_the_pause_reaches_it_succeeds() -> None:
    world = World()
    job_id = world.started()
    world.scheduler.jobs.pause(job_id)

    world.report(completed(job_id))
    world.publish(job_id)
    world.report(published(job_id))

    assert world.state(job_id) is S.SUCCEEDED


def test_a_run_that_finishes_after_a_cancel_gets_no_grant() -> None:
    world = World()
    job_id = world.started()
    world.scheduler.jobs.cancel(job_id)

    with pytest.raises(ForbiddenMove):
        world.publish(job_id)
    world.report(completed(job_id))

    assert world.state(job_id) is S.CANCELLED


def test_a_cancel_after_the_grant_is_refused() -> None:
    world = World()
    job_id = world.started()
    world.publish(job_id)

    with pytest.raises(ForbiddenMove):
        world.scheduler.jobs.cancel(job_id)
    world.report(published(job_id))

    assert world.state(job_id) is S.SUCCEEDED


def test_an_abandoned_job_fails_as_lost_and_its_folder_stays_taken() -> None:
    world = World()
    job_id = world.started()
    world.publish(job_id)

    view = world.scheduler.jobs.abandon(job_id)
    again = world.scheduler.jobs.retry(job_id)

    assert view.job.failure is not None
    assert view.job.failure.cause is FailureCause.LOST
    assert again.job.spec.output_dir == "out-retry-1"


def test_an_edit_changes_what_it_names() -> None:
    world = World()
    job_id = world.create()

    world.scheduler.jobs.update(job_id, JobEdit(priority=3))
    view = world.scheduler.jobs.update(job_id, JobEdit(labels={"a": "b"}, display_name="x"))

    assert (view.job.priority, view.job.labels, view.job.display_name) == (3, {"a": "b"}, "x")
    told = [entry.event.message for entry in world.entries() if entry.event.type == "JOB_UPDATED"]
    assert told == ["changed: priority", "changed: labels, display_name"]


def test_only_a_job_that_has_ended_is_deleted() -> None:
    world = World()
    job_id = world.create()

    with pytest.raises(NotEnded):
        world.scheduler.jobs.delete(job_id)
    world.scheduler.jobs.cancel(job_id)
    first = world.scheduler.jobs.delete(job_id)
    world.clock.advance(5)
    second = world.scheduler.jobs.delete(job_id)

    assert first.job.delete_time is not None
    assert second.job.delete_time == first.job.delete_time


def test_a_deleted_job_is_removed_once_its_monitors_have_its_events() -> None:
    world = World()
    job_id = world.create()
    world.scheduler.jobs.cancel(job_id)
    world.scheduler.feed.announce("monitors/m", "m:7401", 1)
    world.scheduler.jobs.delete(job_id)

    before = world.scheduler.upkeep.run().removed
    world.scheduler.feed.acknowledge("monitors/m", 1, 2**53)
    after = world.scheduler.upkeep.run().removed

    assert (before, after) == ((), (job_id,))
    with pytest.raises(JobNotFound):
        world.view(job_id)
    world.create("out", job_id=job_id)


def test_a_list_walks_on_from_where_a_page_ended() -> None:
    world = World()
    created = []
    for index in range(5):
        world.clock.advance(1)
        created.append(world.create(f"out-{index}"))

    first = world.scheduler.jobs.list(JobQuery(3))
    second = world.scheduler.jobs.list(JobQuery(3, after=first.after))

    walked = [view.job.job_id for view in (*first.jobs, *second.jobs)]
    assert walked == created[::-1]
    assert second.after is None


class RacedStore(MemoryStore):
    """A store in which somebody else is faster, so many times."""

    def __init__(self, races: int) -> None:
        super().__init__()
        self.races = races

    @contextmanager
    def write(self) -> Iterator[MemoryWriting]:
        with super().write() as tx:
            yield RacedWriting(tx, self)


class RacedWriting(MemoryWriting):
    """Finds its guards broken."""

    def __init__(self, tx: MemoryWriting, store: RacedStore) -> None:
        self.__dict__.update(tx.__dict__)
        self.store = store

    def move_job(self, guard: Guard, job: Job) -> bool:
        self.store.races -= 1
        return self.store.races < 0 and super().move_job(guard, job)


def test_a_move_that_loses_its_guard_starts_over_a_few_times() -> None:
    world = World(RacedStore(3))
    job_id = world.create()

    world.scheduler.jobs.cancel(job_id)

    assert world.path(job_id) == ["QUEUED", "CANCELLED"]


def test_a_move_that_always_loses_its_guard_is_refused_and_leaves_nothing() -> None:
    world = World(RacedStore(1_000))
    job_id = world.create()

    with pytest.raises(DatabaseBusy):
        world.scheduler.jobs.cancel(job_id)

    assert world.path(job_id) == ["QUEUED"]


def test_a_second_cancel_answers_with_the_same_end() -> None:
    world = World()
    job_id = world.create()

    world.scheduler.jobs.cancel(job_id)
    again = world.scheduler.jobs.cancel(job_id)

    assert again.job.state is S.CANCELLED
    assert world.path(job_id) == ["QUEUED", "CANCELLED"]


def test_a_failed_run_frees_its_slot_and_says_where_its_streams_end() -> None:
    world = World()
    job_id = world.started()

    world.report(failed(job_id))

    assert world.state(job_id) is S.RECOVERING
    assert world.scheduler.fleet.get(world.scheduler.fleet.list(1).hosts[0].trainer_id).slots == ()
    change = world.entries(job_id)[-1].state_change
    assert [cursor.position for cursor in change.final_cursors] == [77]
    assert change.failure.message == "exit code 1"
