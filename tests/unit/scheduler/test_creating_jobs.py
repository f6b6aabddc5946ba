"""Handing in, planning, and doing again."""

from __future__ import annotations

import pytest

from scheduler_svc.application.creation import NewJob, NewJobOptions
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.errors import (
    JobIdTaken,
    JobNotFound,
    NotEnded,
    OutputDirTaken,
    QueueFull,
    RequestIdReused,
)
from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.states import JobState
from svckit.refusal import InvalidRequest
from tests.unit.scheduler.builders import gpus, spec
from tests.unit.scheduler.world import World, completed, failed, published


def succeeded(world: World, output_dir: str = "out") -> JobId:
    job_id = world.started(output_dir)
    world.report(completed(job_id))
    world.publish(job_id)
    world.report(published(job_id))
    return job_id


def test_a_new_job_is_queued_with_its_first_event() -> None:
    world = World()

    view = world.scheduler.jobs.create(
        NewJob(spec(), "Name", {"team": "nlp"}, 5), NewJobOptions(job_id="mine")
    )

    assert view.job == world.view(JobId("mine")).job
    assert (view.job.state, view.job.priority) == (JobState.QUEUED, 5)
    assert view.pending_reason == "no trainers are registered"
    [entry] = world.entries()
    assert (entry.job, entry.state_change.to) == ("jobs/mine", 2)


def test_the_same_request_makes_one_job() -> None:
    world = World()
    new, options = NewJob(spec()), NewJobOptions(request_id="r1")

    first = world.scheduler.jobs.create(new, options)
    second = world.scheduler.jobs.create(new, options)

    assert first.job == second.job
    assert len(world.entries()) == 1


@pytest.mark.parametrize(
    ("new", "options"),
    [
        (NewJob(spec("other")), NewJobOptions(request_id="r1")),
        (NewJob(spec(), "name"), NewJobOptions(request_id="r1")),
        (NewJob(spec(), labels={"a": "b"}), NewJobOptions(request_id="r1")),
        (NewJob(spec(), priority=1), NewJobOptions(request_id="r1")),
        (NewJob(spec()), NewJobOptions(request_id="r1", hold=True)),
        (NewJob(spec()), NewJobOptions(request_id="r1", job_id="x")),
    ],
)
def test_another_request_with_the_same_id_is_refused(new: NewJob, options: NewJobOptions) -> None:
    world = World()
    world.scheduler.jobs.create(NewJob(spec()), NewJobOptions(request_id="r1"))

    with pytest.raises(RequestIdReused):
        world.scheduler.jobs.create(new, options)


def test_a_request_sent_again_is_the_same_though_defaults_have_changed() -> None:
    world, options = World(), NewJobOptions(request_id="r1")
    asked = {"output_dir": "out"}
    before = spec()
    after = before.model_copy(update={"max_dropped_fraction": 0.5})
    first = world.scheduler.jobs.create(NewJob(before, asked=asked), options)

    second = world.scheduler.jobs.create(NewJob(after, asked=asked), options)

    assert first.job == second.job
    with pytest.raises(RequestIdReused):
        world.scheduler.jobs.create(NewJob(before, asked={**asked, "strict": True}), options)


def test_a_request_that_was_stored_under_its_whole_spec_is_still_known() -> None:
    world, options = World(), NewJobOptions(request_id="r1")
    first = world.scheduler.jobs.create(NewJob(spec()), options)

    second = world.scheduler.jobs.create(NewJob(spec(), asked={"output_dir": "out"}), options)

    assert first.job == second.job


def test_a_taken_folder_is_refused_and_leaves_nothing() -> None:
    world = World()
    first = world.create("a/b")

    with pytest.raises(OutputDirTaken) as caught:
        world.scheduler.jobs.create(NewJob(spec("a/b/c")), NewJobOptions(request_id="r"))

    assert caught.value.metadata["job"] == f"jobs/{first}"
    assert len(world.entries()) == 1
    world.scheduler.jobs.create(NewJob(spec("free")), NewJobOptions(request_id="r"))


def test_a_taken_job_id_is_refused() -> None:
    world = World()
    world.create(job_id="mine")

    with pytest.raises(JobIdTaken):
        world.create("other", job_id="mine")


def test_a_full_queue_refuses_more() -> None:
    world = World(settings=Settings(queue_jobs_max=2))
    world.create("a")
    world.create("b")

    with pytest.raises(QueueFull):
        world.create("c")


def test_a_plan_names_the_trainers_that_fit_and_stores_nothing() -> None:
    world = World()
    world.register("a", gpu_count=2)
    world.register("b", gpu_count=1)

    view = world.scheduler.jobs.plan(NewJob(spec(resources=gpus(2))))

    assert view.plan is not None
    assert view.plan.trainer_ids == ("a",)
    assert view.job.job_id == ""
    assert world.entries() == []


def test_a_plan_is_refused_as_the_job_would_be() -> None:
    world = World()
    world.create("a", job_id="mine")

    with pytest.raises(OutputDirTaken):
        world.scheduler.jobs.plan(NewJob(spec("a")))
    with pytest.raises(JobIdTaken):
        world.scheduler.jobs.plan(NewJob(spec("b")), NewJobOptions(job_id="mine"))


def test_a_held_job_waits_for_its_start() -> None:
    world = World()
    world.register()
    held = world.scheduler.jobs.create(NewJob(spec()), NewJobOptions(hold=True)).job.job_id

    before = world.scheduler.dispatch.run()
    world.scheduler.jobs.start(held)
    after = world.scheduler.dispatch.run()

    assert (len(before), len(after)) == (0, 1)
    assert world.path(held) == ["HELD", "QUEUED", "STARTING"]


def test_a_retry_of_a_job_without_a_result_takes_its_folder() -> None:
    world = World()
    old = world.create("out")
    world.scheduler.jobs.cancel(old)

    again = world.scheduler.jobs.retry(old).job

    assert (again.retry_of, again.spec.output_dir) == (old, "out")
    assert again.job_id != old


def test_a_retry_of_a_job_with_a_result_takes_a_folder_beside_it() -> None:
    world = World()
    old = succeeded(world)

    first = world.scheduler.jobs.retry(old).job
    second = world.scheduler.jobs.retry(old).job
    world.scheduler.jobs.cancel(first.job_id)
    third = world.scheduler.jobs.retry(first.job_id).job

    folders = [one.spec.output_dir for one in (first, second, third)]
    assert folders == ["out-retry-1", "out-retry-2", "out-retry-1"]


def test_a_retry_of_a_retry_counts_on() -> None:
    world = World()
    first = world.scheduler.jobs.retry(succeeded(world)).job.job_id
    world.scheduler.jobs.cancel(first)
    world.create("out-retry-1")

    again = world.scheduler.jobs.retry(first).job

    assert again.spec.output_dir == "out-retry-2"


def test_a_retry_is_idempotent_by_its_request_id() -> None:
    world = World()
    old = succeeded(world)

    first = world.scheduler.jobs.retry(old, "new", "r").job
    second = world.scheduler.jobs.retry(old, "new", "r").job

    assert first == second
    with pytest.raises(RequestIdReused):
        world.scheduler.jobs.retry(old, "other", "r")


def test_a_retry_is_refused_while_the_job_lives_and_into_bad_folders() -> None:
    world = World()
    old = world.create()

    with pytest.raises(NotEnded, match="QUEUED"):
        world.scheduler.jobs.retry(old)
    with pytest.raises(JobNotFound):
        world.scheduler.jobs.retry(JobId("none"))
    world.scheduler.jobs.cancel(old)
    with pytest.raises(InvalidRequest) as caught:
        world.scheduler.jobs.retry(old, "../x")
    assert [one.field for one in caught.value.violations] == ["output_dir"]


def test_a_failed_job_frees_its_folder() -> None:
    world = World()
    job_id = world.started(attempts_max=1)

    world.report(failed(job_id))

    assert world.state(job_id) is JobState.FAILED
    world.create("out")
