"""JobService over a real connection, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tunewright.v1 import job_pb2, job_service_pb2, spec_pb2

from scheduler_svc.config import SchedulerConfig
from tests.integration.scheduler.harness import (
    FakeTrainer,
    SchedulerHandle,
    a_job,
    creation,
    refusal_of,
    running_scheduler,
)


@pytest.fixture(params=["config", "postgres_config"])
async def scheduler(request: pytest.FixtureRequest) -> AsyncIterator[SchedulerHandle]:
    config: SchedulerConfig = request.getfixturevalue(request.param)
    async with running_scheduler(config) as running:
        yield running


async def listed(scheduler: SchedulerHandle, **question: object) -> list[job_pb2.Job]:
    """All pages of a list."""
    jobs: list[job_pb2.Job] = []
    token = ""
    while True:
        request = job_service_pb2.ListJobsRequest(page_token=token, **question)  # type: ignore[arg-type] # fields by name
        page = await scheduler.jobs.ListJobs(request)
        jobs += page.jobs
        token = page.next_page_token
        if not token:
            return jobs


async def test_a_job_comes_back_with_every_default_filled_in(scheduler):
    created = await scheduler.jobs.CreateJob(creation(job_id="my-job"))

    read = await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name="jobs/my-job"))

    assert read == created
    assert read.state == job_pb2.JOB_STATE_QUEUED
    assert read.labels == {"team": "nlp"}
    assert read.spec.backend == spec_pb2.BACKEND_QLORA
    assert read.spec.hyperparameters.learning_rate == 2e-4
    assert read.spec.retry_policy.attempts_max == 3
    assert read.HasField("create_time")
    assert not read.HasField("start_time")


async def test_the_same_request_id_makes_one_job(scheduler):
    request = creation(request_id="abc")

    first, second = await asyncio.gather(
        scheduler.jobs.CreateJob(request), scheduler.jobs.CreateJob(request)
    )
    other = await refusal_of(
        scheduler.jobs.CreateJob(creation(a_job("runs/two"), request_id="abc"))
    )

    assert first.name == second.name
    assert (other.code, other.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert len(await listed(scheduler)) == 1


async def test_validate_only_plans_and_stores_nothing(scheduler):
    async with FakeTrainer.serving("gpu-1") as trainer:
        await trainer.register(scheduler)

        planned = await scheduler.jobs.CreateJob(creation(validate_only=True))

    assert planned.name == ""
    assert list(planned.plan.trainers) == ["trainers/gpu-1"]
    assert any("field" in one for one in planned.plan.checked)
    assert {one.split(":")[0] for one in planned.plan.not_checked} >= {"the model", "the data"}
    assert await listed(scheduler) == []


async def test_a_held_job_waits_for_its_start(scheduler):
    held = await scheduler.jobs.CreateJob(creation(hold=True))

    started = await scheduler.jobs.StartJob(job_service_pb2.StartJobRequest(name=held.name))

    assert held.state == job_pb2.JOB_STATE_HELD
    assert started.state == job_pb2.JOB_STATE_QUEUED


async def test_pages_hold_every_job_once_in_order(scheduler):
    for index in range(7):
        job = a_job(f"runs/{index}")
        job.priority = index % 3
        await scheduler.jobs.CreateJob(creation(job, job_id=f"job-{index}"))

    jobs = await listed(scheduler, page_size=2, order_by="priority desc, create_time")

    assert [(job.priority, job.name) for job in jobs] == [
        (2, "jobs/job-2"),
        (2, "jobs/job-5"),
        (1, "jobs/job-1"),
        (1, "jobs/job-4"),
        (0, "jobs/job-0"),
        (0, "jobs/job-3"),
        (0, "jobs/job-6"),
    ]


async def test_a_page_that_would_not_fit_a_message_ends_early_and_loses_nothing(scheduler):
    for index in range(60):
        job = a_job(f"runs/{index}")
        job.spec.system_prompt = "ü" * 32_000
        job.spec.eval_data.extend([spec_pb2.DataSource(source="/" + "d" * 400)] * 50)
        await scheduler.jobs.CreateJob(creation(job))

    first = await scheduler.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1000))
    jobs = await listed(scheduler, page_size=1000)

    assert 0 < len(first.jobs) < 60
    assert first.next_page_token
    assert len({job.name for job in jobs}) == 60


async def test_a_filter_chooses(scheduler):
    one, two = a_job("runs/1"), a_job("runs/2")
    one.labels["team"] = "vision"
    two.priority = 9
    for job in (one, two):
        await scheduler.jobs.CreateJob(creation(job))

    vision = await listed(scheduler, filter='labels.team="vision" AND state=QUEUED')
    urgent = await listed(scheduler, filter="priority>=9 AND NOT output_dir:one")
    none = await listed(scheduler, filter="state=RUNNING OR create_time>2100-01-01T00:00:00Z")

    assert [job.spec.output_dir for job in vision] == ["runs/1"]
    assert [job.spec.output_dir for job in urgent] == ["runs/2"]
    assert none == []


async def test_an_update_changes_what_its_mask_names(scheduler):
    job = await scheduler.jobs.CreateJob(creation())
    change = job_pb2.Job(name=job.name, priority=5, display_name="ignored", labels={"a": "b"})

    updated = await scheduler.jobs.UpdateJob(
        job_service_pb2.UpdateJobRequest(
            job=change, update_mask=FieldMask(paths=["priority", "labels"])
        )
    )

    assert updated.priority == 5
    assert updated.labels == {"a": "b"}
    assert updated.display_name == "a job"


async def test_a_queued_job_pauses_resumes_cancels_and_is_done_again(scheduler):
    job = await scheduler.jobs.CreateJob(creation())
    name = job.name

    paused = await scheduler.jobs.PauseJob(job_service_pb2.PauseJobRequest(name=name))
    resumed = await scheduler.jobs.ResumeJob(job_service_pb2.ResumeJobRequest(name=name))
    cancelled = await scheduler.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=name))
    retried = await scheduler.jobs.RetryJob(job_service_pb2.RetryJobRequest(name=name))

    assert paused.state == job_pb2.JOB_STATE_PAUSED
    assert resumed.state == job_pb2.JOB_STATE_QUEUED
    assert cancelled.state == job_pb2.JOB_STATE_CANCELLED
    assert retried.state == job_pb2.JOB_STATE_QUEUED
    assert retried.retry_of == name
    assert retried.spec.output_dir == job.spec.output_dir
