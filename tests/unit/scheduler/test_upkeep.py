"""What time does: lost hosts, retries, timeouts, clocks that jump."""

from __future__ import annotations

import pytest
from tunewright.v1 import job_pb2

from scheduler_svc.application.jobs import JobEdit
from scheduler_svc.domain.errors import StaleAttempt, StaleReader
from scheduler_svc.domain.failure import FailureCause
from scheduler_svc.domain.fleet import TrainerState
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.domain.run import RunKey, StopMode
from scheduler_svc.domain.states import JobState
from tests.unit.scheduler.builders import cpu
from tests.unit.scheduler.world import World, completed, failed, published, runs, stopped

S = JobState
A = TrainerId("a")
LOST_SECONDS = 120


def test_a_job_of_a_lost_host_goes_on_elsewhere_and_the_old_run_is_fenced() -> None:
    world = World()
    job_id = world.started()

    world.silence(LOST_SECONDS)
    lost = world.state(job_id), world.scheduler.fleet.get(A).state
    world.register("b")
    world.silence(10)
    world.beat("b")
    [delivery] = world.scheduler.dispatch.run()
    back = world.beat("a", runs(job_id))

    assert lost == (S.RECOVERING, TrainerState.LOST)
    assert (delivery.trainer_id, delivery.assignment.key) == ("b", RunKey(job_id, 2))
    assert [stop.mode for stop in back.stops] == [StopMode.FENCE]
    with pytest.raises(StaleAttempt):
        world.publish(job_id)
    world.report(runs(job_id, 2), "b")
    assert world.state(job_id) is S.RUNNING


def test_a_partition_shorter_than_the_window_changes_nothing() -> None:
    world = World()
    job_id = world.started()

    world.silence(LOST_SECONDS - 1)
    world.beat("a", runs(job_id))
    world.silence(LOST_SECONDS - 1)

    assert world.state(job_id) is S.RUNNING
    assert world.view(job_id).job.attempt == 1


def test_the_slot_on_a_lost_host_stays_taken_until_the_host_is_back_without_the_run() -> None:
    world = World()
    job_id = world.started()
    world.silence(LOST_SECONDS)

    lost = len(world.scheduler.fleet.get(A).slots)
    world.beat("a", runs(job_id))
    alive = len(world.scheduler.fleet.get(A).slots)
    world.beat("a")
    gone = len(world.scheduler.fleet.get(A).slots)

    assert (lost, alive, gone) == (1, 1, 0)
    assert world.scheduler.fleet.get(A).state is TrainerState.READY


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_a_stop_after_the_host_was_lost_says_that_an_attempt_may_still_run(verb: str) -> None:
    world = World()
    job_id = world.started()
    world.silence(LOST_SECONDS)

    getattr(world.scheduler.jobs, verb)(job_id)

    event, last = world.entries(job_id)[-2:]
    assert event.event.type == "STOP_UNCONFIRMED"
    assert event.event.details["trainer"] == "trainers/a"
    assert last.HasField("state_change")


@pytest.mark.parametrize(("verb", "end"), [("cancel", S.CANCELLED), ("pause", S.PAUSED)])
def test_a_stop_on_a_lost_host_ends_unconfirmed(verb: str, end: JobState) -> None:
    world = World()
    job_id = world.started()
    getattr(world.scheduler.jobs, verb)(job_id)

    world.silence(LOST_SECONDS)

    assert world.state(job_id) is end
    event, last = world.entries(job_id)[-2:]
    assert (event.event.type, event.event.details["stop_unconfirmed"]) == (
        "STOP_UNCONFIRMED",
        "true",
    )
    assert last.state_change.to == job_pb2.JobState.Value(end.value)
    assert len(world.scheduler.fleet.get(A).slots) == 1
    [fence] = world.beat("a", runs(job_id)).stops
    assert fence.mode is StopMode.FENCE
    world.beat("a", stopped(job_id))
    assert world.scheduler.fleet.get(A).slots == ()


def test_a_host_that_publishes_is_waited_for() -> None:
    world = World()
    job_id = world.started()
    world.publish(job_id)

    world.silence(LOST_SECONDS + 60)
    reason = world.view(job_id).pending_reason
    world.beat("a", completed(job_id))
    world.report(published(job_id))

    assert "it is waited for" in reason
    assert world.state(job_id) is S.SUCCEEDED


def test_nobody_is_given_up_within_a_window_of_the_scheduler_s_own_start() -> None:
    world = World()
    job_id = world.started()
    world.silence(LOST_SECONDS - 10)

    world.restarted()
    world.silence(LOST_SECONDS - 1)
    before = world.state(job_id)
    world.silence(1)

    assert (before, world.state(job_id)) == (S.RUNNING, S.RECOVERING)


def test_a_scheduler_that_was_stopped_for_a_while_gives_nobody_up_for_it() -> None:
    world = World()
    job_id = world.started()
    world.silence(1)

    world.clock.advance(3600)
    world.silence(LOST_SECONDS)
    before = world.state(job_id)
    world.silence(1)

    assert (before, world.state(job_id)) == (S.RUNNING, S.RECOVERING)


def test_a_mass_silence_stops_all_expiry() -> None:
    world = World()
    job_id = world.started()
    for name in "bcd":
        world.register(name)

    world.silence(LOST_SECONDS * 2)
    result = world.scheduler.upkeep.run()

    assert result.mass_silence
    assert world.state(job_id) is S.RUNNING


def test_trainers_given_up_long_ago_do_not_make_a_mass_silence() -> None:
    world = World()
    for name in "wxyz":
        world.register(name)
        world.silence(LOST_SECONDS)
    job_id = world.started()

    world.restarted()
    world.silence(LOST_SECONDS)

    assert world.state(job_id) is S.RECOVERING


@pytest.mark.parametrize("jump_seconds", [3600, -3600])
def test_a_wall_clock_that_jumps_moves_no_lease_and_ends_no_run(jump_seconds: float) -> None:
    world = World()
    job_id = world.started(run_timeout_seconds=600.0)
    world.silence(5)

    world.clock.jump_wall(jump_seconds)
    for _ in range(60):
        world.silence(1)
        world.beat("a", runs(job_id))

    assert world.state(job_id) is S.RUNNING
    assert world.beat("a", runs(job_id)).stops == ()


def test_a_retry_waits_for_its_back_off_even_when_the_clock_is_set_back() -> None:
    world = World()
    job_id = world.started()
    world.report(failed(job_id))

    world.silence(9)
    early = world.state(job_id)
    world.clock.jump_wall(-3600)
    world.silence(1)

    assert (early, world.state(job_id)) == (S.RECOVERING, S.QUEUED)


def test_an_edit_after_the_clock_was_set_back_does_not_lengthen_the_wait() -> None:
    world = World()
    job_id = world.started()
    world.report(failed(job_id))

    world.clock.jump_wall(-3600)
    world.scheduler.jobs.update(job_id, JobEdit(priority=1))
    world.silence(1)

    assert world.state(job_id) is S.QUEUED


def test_a_job_that_keeps_crashing_fails_after_its_attempts() -> None:
    world = World()
    job_id = world.started(attempts_max=2, backoff_seconds=1.0)
    world.report(failed(job_id))
    world.silence(2)
    world.beat("a")
    world.scheduler.dispatch.run()

    world.report(failed(job_id, 2))

    job = world.view(job_id).job
    assert job.state is S.FAILED
    assert job.failure is not None
    assert job.failure.cause is FailureCause.CRASHED


def test_a_job_that_takes_its_trainer_down_three_times_is_quarantined() -> None:
    world = World()
    job_id = world.started(attempts_max=10)
    for boot in range(2, 5):
        world.register("a", f"i{boot}", runs(job_id, boot - 1), boot_id=f"boot-{boot}")
        world.scheduler.dispatch.run()

    job = world.view(job_id).job
    assert (job.state, job.attempt) == (S.FAILED, 3)
    assert job.failure is not None
    assert job.failure.cause is FailureCause.QUARANTINED


def test_a_run_that_takes_too_long_is_stopped_and_fails() -> None:
    world = World()
    job_id = world.started(run_timeout_seconds=60.0)
    for _ in range(60):
        world.silence(1)
        early = world.beat("a", runs(job_id)).stops
        if early:
            break

    orders = [world.beat("a", runs(job_id)).stops for _ in range(2)]
    world.restarted()
    orders.append(world.beat("a", runs(job_id)).stops)
    world.report(stopped(job_id))

    assert [[stop.mode for stop in stops] for stops in orders] == [[StopMode.TIMEOUT]] * 3
    job = world.view(job_id).job
    assert job.failure is not None
    assert (job.state, job.failure.cause) == (S.FAILED, FailureCause.RUN_TIMEOUT)
    assert [one.event.type for one in world.entries(job_id) if one.HasField("event")] == [
        "RUN_TIMEOUT"
    ]


def test_a_suspect_trainer_gets_no_new_work() -> None:
    world = World()
    world.register()
    world.silence(20)
    job_id = world.create(resources=cpu())

    nothing = world.scheduler.dispatch.run()
    reason = world.view(job_id).pending_reason
    world.beat("a")
    something = world.scheduler.dispatch.run()

    assert (len(nothing), len(something)) == (0, 1)
    assert reason == "needs a CPU slot; a has not been heard of for a while"


def test_a_monitor_with_an_older_lease_is_refused() -> None:
    feed = World().scheduler.feed
    feed.announce("monitors/new", "n:7401", 5)

    with pytest.raises(StaleReader):
        feed.announce("monitors/old", "o:7401", 4)
    with pytest.raises(StaleReader):
        feed.acknowledge("monitors/old", 4, 1)


def test_endpoints_name_the_monitor_heard_of_last_first() -> None:
    world = World()
    world.scheduler.feed.announce("monitors/a", "a:7401", 1)
    world.clock.advance(1)
    world.scheduler.feed.announce("monitors/b", "b:7401", 1)
    world.clock.advance(1)
    world.scheduler.feed.acknowledge("monitors/a", 1, 3)

    assert world.scheduler.fleet.endpoints() == ("a:7401", "b:7401")
