"""What trainers say, and what they are told: fencing, repeats, restarts, reboots."""

from __future__ import annotations

import pytest

from scheduler_svc.domain.errors import (
    ForbiddenMove,
    JobNotFound,
    NotLeader,
    RunNotFound,
    StaleAttempt,
    StaleIncarnation,
    TrainerNotFound,
)
from scheduler_svc.domain.failure import FailureCause
from scheduler_svc.domain.fleet import TrainerState
from scheduler_svc.domain.job import JobId, Progress, TrainerId
from scheduler_svc.domain.run import RunKey, RunPhase, RunReport, StopMode
from scheduler_svc.domain.states import JobState
from tests.unit.scheduler.builders import gpus
from tests.unit.scheduler.world import World, completed, failed, published, runs, stopped

S = JobState
A = TrainerId("a")


def test_a_job_is_walked_from_the_queue_to_its_result() -> None:
    world = World()
    job_id = world.started()

    world.report(completed(job_id))
    world.publish(job_id)
    state = world.report(published(job_id))

    job = world.view(job_id).job
    assert state is S.SUCCEEDED is job.state
    assert job.output is not None
    assert job.output.path == f"/out/{job_id}"
    assert job.end_time is not None
    assert world.path(job_id) == ["QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED"]
    assert world.scheduler.fleet.get(A).slots == ()


def test_every_report_may_come_twice() -> None:
    world = World()
    job_id = world.started()
    said = [runs(job_id), completed(job_id)]

    for report in said * 2:
        world.report(report)
    grants = [world.publish(job_id) for _ in range(2)]
    ends = [world.report(published(job_id)) for _ in range(2)]

    assert (grants, ends) == ([S.PUBLISHING] * 2, [S.SUCCEEDED] * 2)
    assert world.path(job_id) == ["QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED"]


def test_heartbeats_alone_carry_a_job_to_the_grant() -> None:
    """Every single report was lost."""
    world = World()
    world.register()
    job_id = world.create()
    world.scheduler.dispatch.run()

    world.beat("a", runs(job_id))
    world.beat("a", completed(job_id))
    world.publish(job_id)
    answer = world.beat("a", published(job_id))

    assert world.state(job_id) is S.SUCCEEDED
    assert answer.acknowledged_runs == (RunKey(job_id, 1),)


def test_a_grant_may_be_asked_for_before_the_start_was_heard_of() -> None:
    world = World()
    world.register()
    job_id = world.create()
    world.scheduler.dispatch.run()

    world.publish(job_id)

    assert world.path(job_id)[-2:] == ["RUNNING", "PUBLISHING"]


def test_an_assignment_is_repeated_until_its_run_is_heard_of() -> None:
    world = World()
    world.register()
    job_id = world.create()
    [delivery] = world.scheduler.dispatch.run()

    first = world.beat("a").assignments
    second = world.beat("a", RunReport(RunKey(job_id, 1), RunPhase.PREPARING)).assignments
    third = world.beat("a", runs(job_id)).assignments

    assert first == second == (delivery.assignment,)
    assert third == ()


def test_another_scheduler_delivers_what_one_has_committed() -> None:
    world = World()
    world.register()
    job_id = world.create()
    world.scheduler.dispatch.run()

    world.restarted()

    assert [one.key for one in world.beat("a").assignments] == [RunKey(job_id, 1)]


@pytest.mark.parametrize(("trainer_id", "incarnation"), [("b", "i1"), ("a", "i0")])
def test_reports_from_elsewhere_are_stale(trainer_id: str, incarnation: str) -> None:
    world = World()
    job_id = world.started()

    for report in (runs(job_id), failed(job_id), published(job_id)):
        with pytest.raises(StaleAttempt):
            world.report(report, trainer_id, incarnation)
    with pytest.raises(StaleAttempt):
        world.publish(job_id, 1, trainer_id, incarnation)

    assert world.state(job_id) is S.RUNNING


def test_reports_of_an_older_attempt_are_stale() -> None:
    world = World()
    job_id = world.started()
    world.report(failed(job_id))
    world.silence(11)
    world.beat("a")
    world.scheduler.dispatch.run()

    with pytest.raises(StaleAttempt):
        world.report(runs(job_id, 1))
    with pytest.raises(StaleAttempt):
        world.publish(job_id, 1)

    assert world.view(job_id).job.attempt == 2
    assert world.state(job_id) is S.STARTING


def test_a_run_that_this_database_does_not_know_is_kept_and_never_stopped() -> None:
    world = World()
    known = world.started()
    strangers = (runs(JobId("unknown"), 3), runs(known, 7))

    registered = world.register("a", "i2", runs(known), *strangers)
    answer = world.beat("a", runs(known), *strangers, incarnation="i2")

    keys = {report.key for report in strangers}
    assert set(registered.unknown_runs) == keys == set(answer.unknown_runs)
    assert (registered.stale_runs, answer.stops) == ((), ())
    with pytest.raises(JobNotFound):
        world.report(strangers[0], "a", "i2")
    with pytest.raises(RunNotFound):
        world.report(strangers[1], "a", "i2")
    assert world.state(known) is S.RUNNING


def test_an_unknown_start_is_asked_to_register_again() -> None:
    world = World()

    assert world.beat("a").register_again
    world.register("a", "i2")
    assert world.beat("a", incarnation="i1").register_again
    assert not world.beat("a", incarnation="i2").register_again


def test_a_late_heartbeat_moves_nothing() -> None:
    world = World()
    job_id = world.started()
    world.sequence = 10
    world.beat("a", runs(job_id))
    world.sequence = 3

    world.beat("a", failed(job_id))

    assert world.state(job_id) is S.RUNNING


def test_a_restarted_service_takes_its_runs_back_in_the_same_attempt() -> None:
    world = World()
    job_id = world.started()

    answer = world.register("a", "i2", runs(job_id))

    assert (answer.stale_runs, answer.unknown_runs) == ((), ())
    assert world.view(job_id).job.attempt == 1
    with pytest.raises(StaleAttempt):
        world.report(failed(job_id))
    world.publish(job_id, incarnation="i2")


def test_a_restarted_service_gets_an_assignment_it_never_heard_of_again() -> None:
    world = World()
    world.register()
    job_id = world.create()
    world.scheduler.dispatch.run()

    world.register("a", "i2")

    assert [one.key for one in world.beat("a", incarnation="i2").assignments] == [RunKey(job_id, 1)]


@pytest.mark.parametrize(
    ("verb", "state"), [("", S.RECOVERING), ("cancel", S.CANCELLED), ("pause", S.PAUSED)]
)
def test_a_service_that_comes_back_without_the_folder_has_lost_the_run(
    verb: str, state: JobState
) -> None:
    world = World()
    job_id = world.started()
    if verb:
        getattr(world.scheduler.jobs, verb)(job_id)

    world.register("a", "i2")

    assert world.state(job_id) is state
    assert world.scheduler.fleet.get(A).slots == ()


def test_a_publishing_run_is_waited_for_even_without_its_folder() -> None:
    world = World()
    job_id = world.started()
    world.publish(job_id)

    world.register("a", "i2", boot_id="boot-2")
    world.report(published(job_id), incarnation="i2")

    assert world.state(job_id) is S.SUCCEEDED


def test_what_ended_while_the_service_was_down_is_taken_from_its_registration() -> None:
    world = World()
    job_id = world.started()

    answer = world.register("a", "i2", failed(job_id))

    assert world.state(job_id) is S.RECOVERING
    assert answer.acknowledged_runs == (RunKey(job_id, 1),)


@pytest.mark.parametrize("report", [None, runs, failed])
def test_after_a_reboot_the_job_is_queued_at_once(report: object) -> None:
    world = World()
    job_id = world.started()
    listed = (report(job_id),) if callable(report) else ()

    world.register("a", "i2", *listed, boot_id="boot-2")

    job = world.view(job_id).job
    assert job.state is S.QUEUED
    assert job.current is not None
    assert job.current.failure is not None
    assert job.current.failure.cause is FailureCause.LOST
    assert world.scheduler.fleet.get(A).slots == ()
    [delivery] = world.scheduler.dispatch.run()
    assert delivery.assignment.key == RunKey(job_id, 2)


def test_a_run_that_completed_before_the_reboot_publishes_after_it() -> None:
    world = World()
    job_id = world.started()

    world.register("a", "i2", completed(job_id), boot_id="boot-2")
    world.publish(job_id, incarnation="i2")

    assert world.state(job_id) is S.PUBLISHING


def test_registering_twice_is_registering_once() -> None:
    world = World()
    job_id = world.started()

    answers = [world.register("a", "i2", runs(job_id)) for _ in range(2)]

    assert answers[0] == answers[1]
    assert world.path(job_id) == ["QUEUED", "STARTING", "RUNNING"]


def test_a_registration_of_an_earlier_start_is_refused() -> None:
    world = World()
    world.register("a", "0000000001-x")
    world.register("a", "0000000002-b")
    job_id = world.create()
    world.scheduler.dispatch.run()

    with pytest.raises(StaleIncarnation):
        world.register("a", "0000000001-x")

    assert world.beat("a", runs(job_id), incarnation="0000000002-b").stops == ()
    assert world.state(job_id) is S.RUNNING


def test_a_registration_that_comes_late_ends_no_run_that_began_since() -> None:
    world = World()
    world.register("a", "i1")
    job_id = world.started()

    answer = world.register("a", "i1")

    assert world.state(job_id) is JobState.RUNNING
    assert answer.stale_runs == ()
    with world.store.read() as tx:
        assert [slot.job_id for slot in tx.held_slots()] == [job_id]


def test_a_publication_without_a_grant_is_refused() -> None:
    world = World()
    job_id = world.started()

    with pytest.raises(ForbiddenMove):
        world.report(published(job_id))

    world.beat("a", published(job_id))
    assert world.state(job_id) is S.RUNNING


def test_progress_of_a_heartbeat_is_seen_at_once_and_survives_a_restart() -> None:
    world = World()
    job_id = world.started()
    progress = Progress(step=7, total_steps=10)
    report = RunReport(RunKey(job_id, 1), RunPhase.RUNNING, progress=progress)

    world.beat("a", report)
    at_once = world.view(job_id).progress
    world.scheduler.upkeep.flush()
    world.restarted()

    assert at_once == progress == world.view(job_id).progress


def test_a_gpu_with_a_fault_is_set_aside_until_an_uncordon() -> None:
    world = World()
    world.register("a", gpu_count=1)
    first = world.create("x", resources=gpus(1), attempts_max=1)
    world.scheduler.dispatch.run()
    world.report(failed(first, cause=FailureCause.GPU_FAULT))
    second = world.create("y", resources=gpus(1))

    before = world.scheduler.dispatch.run()
    reason = world.view(second).pending_reason
    world.scheduler.fleet.uncordon(A)
    after = world.scheduler.dispatch.run()

    assert (len(before), len(after)) == (0, 1)
    assert "fault on gpu 0" in reason


def test_a_cordoned_trainer_keeps_what_runs_and_gets_nothing_new() -> None:
    world = World()
    job_id = world.started()
    world.create("other")

    host = world.scheduler.fleet.cordon(A)
    nothing = world.scheduler.dispatch.run()
    world.register("a", "i2", runs(job_id))

    assert host.trainer.cordoned
    assert nothing == ()
    assert world.scheduler.fleet.get(A).trainer.cordoned
    assert world.state(job_id) is S.RUNNING
    with pytest.raises(TrainerNotFound):
        world.scheduler.fleet.cordon(TrainerId("none"))


def test_trainers_are_listed_page_by_page() -> None:
    world = World()
    for name in ("c", "a", "b"):
        world.register(name)

    first = world.scheduler.fleet.list(2)
    second = world.scheduler.fleet.list(2, first.after)

    assert [host.trainer_id for host in (*first.hosts, *second.hosts)] == ["a", "b", "c"]
    assert second.after is None


def test_a_trainer_is_suspect_until_a_new_scheduler_has_heard_it() -> None:
    world = World()
    world.register()

    world.restarted()
    before = world.scheduler.fleet.get(A).state
    world.beat("a")

    assert before is TrainerState.SUSPECT
    assert world.scheduler.fleet.get(A).state is TrainerState.READY


def test_a_scheduler_that_lost_the_lead_answers_no_trainer_and_moves_nothing() -> None:
    world = World()
    job_id = world.started()
    old = world.scheduler
    world.restarted()
    new, world.scheduler = world.scheduler, old

    for call in (
        lambda: world.report(failed(job_id)),
        lambda: world.publish(job_id),
        lambda: world.beat("a"),
        lambda: world.register("a", "i2"),
    ):
        with pytest.raises(NotLeader):
            call()
    world.create("other")
    with pytest.raises(NotLeader):
        old.dispatch.run()

    world.scheduler = new
    assert world.state(job_id) is S.RUNNING


def test_a_stale_run_is_fenced_until_it_is_over_and_then_acknowledged() -> None:
    world = World()
    job_id = world.started()
    world.report(failed(job_id))
    world.silence(11)
    world.beat("a")
    world.scheduler.dispatch.run()

    alive = world.beat("a", runs(job_id, 1))
    over = world.beat("a", stopped(job_id, 1))

    assert [(stop.key, stop.mode) for stop in alive.stops] == [(RunKey(job_id, 1), StopMode.FENCE)]
    assert (over.stops, over.acknowledged_runs) == ((), (RunKey(job_id, 1),))
