"""From a job to a run on a trainer and back, over real connections."""

from collections.abc import AsyncIterator

import pytest
from tunewright.v1 import (
    fleet_service_pb2,
    job_pb2,
    job_service_pb2,
    registry_service_pb2,
    trainer_pb2,
)

from scheduler_svc.config import SchedulerConfig
from tests.integration.scheduler.harness import (
    FakeTrainer,
    SchedulerHandle,
    a_job,
    creation,
    refusal_of,
    running_scheduler,
    until,
)
from tests.support.eventually import eventually

registry = registry_service_pb2


@pytest.fixture(params=["config", "postgres_config"])
async def scheduler(request: pytest.FixtureRequest) -> AsyncIterator[SchedulerHandle]:
    config: SchedulerConfig = request.getfixturevalue(request.param)
    async with running_scheduler(config) as running:
        yield running


def run_of(name: str, phase: registry.RunPhase.ValueType, **more: object) -> registry.RunStatus:
    return registry.RunStatus(job=name, attempt=1, phase=phase, **more)  # type: ignore[arg-type] # fields by name


async def started_job(scheduler: SchedulerHandle, trainer: FakeTrainer) -> job_pb2.Job:
    """A job whose child runs on the trainer."""
    job = await scheduler.jobs.CreateJob(creation())
    await eventually(lambda: trainer.started)
    await trainer.report(scheduler, run_of(job.name, registry.RUN_PHASE_RUNNING))
    return job


async def test_a_new_job_is_said_to_its_trainer_at_once(scheduler, trainer):
    job = await scheduler.jobs.CreateJob(creation(a_job(on_gpu=True)))

    await eventually(lambda: trainer.started)

    said = trainer.started[0]
    assert said.assignment.job == job.name
    assert said.assignment.attempt == 1
    assert list(said.assignment.gpu_ids) == ["0"]
    assert said.assignment.spec == job.spec
    assert not said.assignment.resume
    assert said.incarnation == trainer.incarnation
    assert said.generation >= 1
    assert await scheduler.state_of(job.name) == "JOB_STATE_STARTING"


async def test_an_assignment_that_was_not_heard_is_in_the_next_heartbeats_answer(scheduler):
    async with FakeTrainer.serving("gpu-1") as deaf:
        deaf.address = "127.0.0.1:9"
        await deaf.register(scheduler)
        job = await scheduler.jobs.CreateJob(creation())
        await until(lambda: _is(scheduler, job.name, "JOB_STATE_STARTING"))

        first = await deaf.heartbeat(scheduler)
        again = await deaf.heartbeat(scheduler)

    assert [one.job for one in first.assignments] == [job.name]
    assert [one.job for one in again.assignments] == [job.name]
    assert deaf.started == []


async def test_a_run_goes_through_to_its_published_result(scheduler, trainer):
    job = await started_job(scheduler, trainer)
    completed = run_of(job.name, registry.RUN_PHASE_ENDED, outcome=registry.RUN_OUTCOME_COMPLETED)
    published = run_of(
        job.name,
        registry.RUN_PHASE_PUBLISHED,
        outcome=registry.RUN_OUTCOME_COMPLETED,
        output=job_pb2.JobOutput(path="/outputs/runs/one", manifest_digest="sha256:00"),
    )

    running = await scheduler.state_of(job.name)
    await trainer.report(scheduler, completed)
    await scheduler.registry.BeginPublish(
        registry.BeginPublishRequest(
            trainer=trainer.name, incarnation=trainer.incarnation, job=job.name, attempt=1
        )
    )
    publishing = await scheduler.state_of(job.name)
    answer = await trainer.report(scheduler, published)

    ended = await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name))
    assert (running, publishing) == ("JOB_STATE_RUNNING", "JOB_STATE_PUBLISHING")
    assert answer.state == job_pb2.JOB_STATE_SUCCEEDED
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED
    assert ended.output.path == "/outputs/runs/one"
    assert ended.HasField("start_time")
    assert ended.HasField("end_time")


async def test_progress_of_a_heartbeat_is_on_the_job(scheduler, trainer):
    job = await started_job(scheduler, trainer)
    progress = job_pb2.Progress(step=5, total_steps=10, loss=1.5, phase="training\0")

    await trainer.heartbeat(
        scheduler, run_of(job.name, registry.RUN_PHASE_RUNNING, progress=progress)
    )

    read = await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name))
    assert (read.progress.step, read.progress.total_steps, read.progress.loss) == (5, 10, 1.5)
    assert read.progress.phase == "training\ufffd"


@pytest.mark.parametrize(
    ("verb", "mode", "moving"),
    [
        ("CancelJob", registry.STOP_MODE_CANCEL, "JOB_STATE_CANCELLING"),
        ("PauseJob", registry.STOP_MODE_PAUSE, "JOB_STATE_PAUSING"),
    ],
)
async def test_a_stop_is_said_at_once_and_repeated_until_the_run_has_ended(
    scheduler, trainer, verb, mode, moving
):
    job = await started_job(scheduler, trainer)
    request = getattr(job_service_pb2, f"{verb}Request")(name=job.name)

    answer = await getattr(scheduler.jobs, verb)(request)
    await eventually(lambda: trainer.stopped)
    beat = await trainer.heartbeat(scheduler, run_of(job.name, registry.RUN_PHASE_RUNNING))
    ended = await trainer.report(
        scheduler,
        run_of(job.name, registry.RUN_PHASE_ENDED, outcome=registry.RUN_OUTCOME_STOPPED),
    )

    assert job_pb2.JobState.Name(answer.state) == moving
    assert trainer.stopped[0].stop.mode == mode
    assert [(stop.job, stop.mode) for stop in beat.stops] == [(job.name, mode)]
    assert job_pb2.JobState.Name(ended.state) in ("JOB_STATE_CANCELLED", "JOB_STATE_PAUSED")


async def test_a_report_of_a_start_that_was_replaced_is_stale(scheduler, trainer):
    job = await started_job(scheduler, trainer)
    trainer.incarnation = "incarnation-2"
    await trainer.register(scheduler)
    trainer.incarnation = "incarnation-1"

    refused = await refusal_of(
        trainer.report(scheduler, run_of(job.name, registry.RUN_PHASE_RUNNING))
    )

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "STALE_ATTEMPT")
    assert refused.metadata == {"job": job.name, "attempt": "1"}


async def test_a_report_that_makes_no_sense_names_each_bad_field(scheduler, trainer):
    trainer.incarnation = ""
    bad = registry.RunStatus(job="nonsense", attempt=1, phase=99)  # type: ignore[arg-type] # no such phase

    refused = await refusal_of(trainer.report(scheduler, bad))

    assert {violation.field for violation in refused.violations} == {
        "incarnation",
        "run.job",
        "run.phase",
    }


async def test_an_unknown_start_of_a_trainer_is_told_to_register_again(scheduler, trainer):
    trainer.incarnation = "incarnation-2"

    beat = await trainer.heartbeat(scheduler)

    assert beat.register_again
    assert not beat.stops


async def test_a_cordon_keeps_work_away_and_its_end_brings_it_at_once(scheduler, trainer):
    pinned, elsewhere = a_job("runs/1", on_gpu=True), a_job("runs/2", on_gpu=True)
    pinned.spec.resources.trainer = trainer.name
    name = trainer.name
    await scheduler.fleet.CordonTrainer(fleet_service_pb2.CordonTrainerRequest(name=name))
    async with FakeTrainer.serving("gpu-2") as other:
        await other.register(scheduler)
        job = await scheduler.jobs.CreateJob(creation(pinned))
        await scheduler.jobs.CreateJob(creation(elsewhere))
        await eventually(lambda: other.started)  # a round of dispatch has seen both
        waiting = await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name))
        kept_away = not trainer.started

        await scheduler.fleet.UncordonTrainer(fleet_service_pb2.UncordonTrainerRequest(name=name))
        await eventually(lambda: trainer.started)

    assert kept_away
    assert "cordon" in waiting.pending_reason


async def test_the_fleet_shows_who_holds_what(scheduler, trainer):
    job = await scheduler.jobs.CreateJob(creation(a_job(on_gpu=True)))
    await eventually(lambda: trainer.started)

    page = await scheduler.fleet.ListTrainers(fleet_service_pb2.ListTrainersRequest())
    one = await scheduler.fleet.GetTrainer(fleet_service_pb2.GetTrainerRequest(name=trainer.name))

    assert list(page.trainers) == [one]
    assert one.state == trainer_pb2.TRAINER_STATE_READY
    assert [gpu.job for gpu in one.gpus] == [job.name, ""]
    assert list(one.jobs) == [job.name]
    assert one.capabilities.missing_backends["BACKEND_SWIFT"] == "ms-swift is not installed"


async def test_trainers_come_page_by_page(scheduler):
    names = [f"trainers/host-{index}" for index in range(5)]
    for name in names:
        fake = FakeTrainer(name.removeprefix("trainers/"), address="127.0.0.1:9")
        await fake.register(scheduler)

    seen, token = [], ""
    while True:
        page = await scheduler.fleet.ListTrainers(
            fleet_service_pb2.ListTrainersRequest(page_size=2, page_token=token)
        )
        seen += [trainer.name for trainer in page.trainers]
        token = page.next_page_token
        if not token:
            break

    assert seen == names


async def test_an_unknown_trainer_is_named(scheduler):
    refused = await refusal_of(
        scheduler.fleet.GetTrainer(fleet_service_pb2.GetTrainerRequest(name="trainers/none"))
    )

    assert (refused.code, refused.reason) == ("NOT_FOUND", "TRAINER_NOT_FOUND")
    assert "trainers/none" in refused.message


async def _is(scheduler: SchedulerHandle, name: str, state: str) -> bool:
    return await scheduler.state_of(name) == state
