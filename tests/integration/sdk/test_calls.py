"""Calls of both clients against real servers: requests, pages, errors, retries."""

from __future__ import annotations

import pytest
from tunewright import AsyncClient, Client, errors
from tunewright.errors import EXCEPTIONS, ApiError, Violation
from tunewright.v1 import fleet_service_pb2, job_pb2, job_service_pb2, trainer_pb2
from tunewright.wire.reasons import CODES, Reason
from tunewright.wire.status import RichError, make_error

from tests.integration.sdk.fake_services import FakeScheduler, FakeTrainer, Served


def test_create_sends_what_was_given_and_answers_with_the_job(
    client: Client, scheduler: FakeScheduler
) -> None:
    job = client.jobs.create(
        model="m", train_data="/d#5", output_dir="o", accelerator="cpu", labels={"team": "a"}
    )

    [request] = scheduler.calls(job_service_pb2.CreateJobRequest)
    assert job.state == "QUEUED"
    assert job.id == "job-1"
    assert request.job.spec.train_data[0].source == "/d#5"
    assert request.job.labels == {"team": "a"}


async def test_async_create_sends_the_same_request_as_the_synchronous_one(
    client: Client, async_client: AsyncClient, scheduler: FakeScheduler
) -> None:
    client.jobs.create(model="m", train_data=["/d"], output_dir="o", request_id="same")
    await async_client.jobs.create(model="m", train_data=["/d"], output_dir="o", request_id="same")

    first, second = scheduler.calls(job_service_pb2.CreateJobRequest)
    assert first == second


def test_a_lost_answer_is_asked_for_again_under_one_request_id(
    client: Client, scheduler: FakeScheduler
) -> None:
    scheduler.lose_answers = 2

    job = client.jobs.create(model="m", train_data="/d", output_dir="o")

    requests = scheduler.calls(job_service_pb2.CreateJobRequest)
    assert len(requests) == 3
    assert len({request.request_id for request in requests}) == 1
    assert len(requests[0].request_id) == 32
    assert list(scheduler.jobs) == [job.name]


async def test_async_lost_answer_is_asked_for_again_under_one_request_id(
    async_client: AsyncClient, scheduler: FakeScheduler
) -> None:
    scheduler.lose_answers = 2

    job = await async_client.jobs.create(model="m", train_data="/d", output_dir="o")

    requests = scheduler.calls(job_service_pb2.CreateJobRequest)
    assert len({request.request_id for request in requests}) == 1
    assert list(scheduler.jobs) == [job.name]


def test_two_creates_have_two_request_ids(client: Client, scheduler: FakeScheduler) -> None:
    for _ in range(2):
        client.jobs.create(model="m", train_data="/d", output_dir="o")

    requests = scheduler.calls(job_service_pb2.CreateJobRequest)
    assert len({request.request_id for request in requests}) == 2


def test_list_walks_the_pages(client: Client, scheduler: FakeScheduler) -> None:
    names = [scheduler.add(f"job-{index}") for index in range(7)]

    found = [job.name for job in client.jobs.list(filter="state = RUNNING", page_size=3)]

    requests = scheduler.calls(job_service_pb2.ListJobsRequest)
    assert found == names
    assert len(requests) == 3
    assert {request.filter for request in requests} == {"state = RUNNING"}


async def test_async_list_walks_the_pages(
    async_client: AsyncClient, scheduler: FakeScheduler
) -> None:
    names = [scheduler.add(f"job-{index}") for index in range(7)]

    found = [job.name async for job in async_client.jobs.list(page_size=3)]

    assert found == names


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_raised_as_its_exception(
    client: Client, scheduler: FakeScheduler, reason: Reason
) -> None:
    scheduler.add("a")
    bad = [Violation("job.spec.model.name", "is required")]
    # A cancel is not repeatable, so that UNAVAILABLE without RetryInfo comes out at once.
    scheduler.failures = [make_error(reason, "told so", {"key": "value"}, bad)]

    with pytest.raises(ApiError) as caught:
        client.jobs.cancel("a")

    error = caught.value
    expected = EXCEPTIONS.get(reason, EXCEPTIONS[CODES[reason]])
    assert type(error) is expected
    assert type(error) is not ApiError
    assert (error.reason, error.code, error.message) == (reason, CODES[reason], "told so")
    assert error.metadata == {"key": "value"}
    assert error.violations == (Violation("job.spec.model.name", "is required"),)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_is_raised_as_its_exception_by_the_async_client(
    async_client: AsyncClient, scheduler: FakeScheduler, reason: Reason
) -> None:
    scheduler.add("a")
    scheduler.failures = [make_error(reason, "told so")]

    with pytest.raises(EXCEPTIONS.get(reason, EXCEPTIONS[CODES[reason]])) as caught:
        await async_client.jobs.cancel("a")

    assert caught.value.reason == reason


def test_a_reason_of_a_newer_service_is_raised_by_its_code(
    client: Client, scheduler: FakeScheduler
) -> None:
    scheduler.failures = [RichError("FAILED_PRECONDITION", "NOT_YET_INVENTED", "wait")]

    with pytest.raises(errors.FailedPrecondition) as caught:
        client.jobs.get("a")

    assert caught.value.reason == "NOT_YET_INVENTED"


def test_a_busy_database_is_tried_again_even_for_a_verb(
    client: Client, scheduler: FakeScheduler
) -> None:
    scheduler.add("a")
    busy = make_error(Reason.DATABASE_BUSY, "busy", retry_delay_seconds=0.01)
    scheduler.failures = [busy, busy]

    job = client.jobs.cancel("a")

    assert job.state == "CANCELLING"


def test_a_verb_whose_fate_is_unknown_is_not_repeated(
    client: Client, scheduler: FakeScheduler
) -> None:
    scheduler.add("a")
    scheduler.failures = [RichError("UNAVAILABLE", "", "connection reset")]

    with pytest.raises(errors.Unavailable):
        client.jobs.start("a")

    assert len(scheduler.calls(job_service_pb2.StartJobRequest)) == 1


def test_a_forbidden_move_names_both_states(client: Client, scheduler: FakeScheduler) -> None:
    name = scheduler.add("a", job_pb2.JOB_STATE_SUCCEEDED)

    with pytest.raises(errors.ForbiddenMove) as caught:
        client.jobs.cancel(name)

    assert caught.value.metadata == {"from": "JOB_STATE_SUCCEEDED", "to": "JOB_STATE_CANCELLING"}


def test_a_scheduler_that_is_away_is_named_once_the_timeout_is_over() -> None:
    with Client("127.0.0.1:1", timeout=0.3) as client, pytest.raises(errors.Unavailable) as caught:
        client.jobs.get("a")

    assert str(caught.value) == "cannot reach the scheduler at 127.0.0.1:1: Connection refused"


def test_a_scheduler_that_comes_back_in_time_answers_the_call(
    client: Client, scheduler: FakeScheduler, scheduler_server: Served
) -> None:
    scheduler.add("a")
    client.jobs.get("a")
    scheduler_server.stop()
    scheduler_server.start()

    assert client.jobs.get("a").state == "RUNNING"


def test_update_sends_only_what_is_given(client: Client, scheduler: FakeScheduler) -> None:
    scheduler.add("a")

    job = client.jobs.update("a", priority=7, labels={"x": "y"})

    [request] = scheduler.calls(job_service_pb2.UpdateJobRequest)
    assert list(request.update_mask.paths) == ["priority", "labels"]
    assert (job.priority, job.labels) == (7, {"x": "y"})


def test_the_verbs_of_a_job_update_its_record_in_place(
    client: Client, scheduler: FakeScheduler
) -> None:
    scheduler.add("a")
    job = client.jobs.get("a")

    assert job.pause() is job
    assert job.state == "PAUSING"
    assert job.resume().state == "QUEUED"
    assert job.update(display_name="first").display_name == "first"
    assert job.retry(output_dir="o2").proto.retry_of == "jobs/a"
    assert job.delete().proto.HasField("delete_time")


def test_wait_returns_the_final_job(client: Client, scheduler: FakeScheduler) -> None:
    name = scheduler.add("a", job_pb2.JOB_STATE_FAILED)
    scheduler.jobs[name].failure.message = "no such file"

    job = client.jobs.get("a").wait()

    assert job.is_terminal
    assert not job.succeeded
    with pytest.raises(errors.JobFailed, match="no such file"):
        job.wait(raise_on_failure=True)


def test_wait_gives_up_after_its_timeout_and_says_that_the_job_goes_on(
    client: Client, scheduler: FakeScheduler
) -> None:
    job = client.jobs.get(scheduler.add("a"))

    with pytest.raises(TimeoutError, match=r"jobs/a is still RUNNING after 0\.05 s; it goes on"):
        job.wait(0.05)


async def test_async_wait_raises_for_a_cancelled_job(
    async_client: AsyncClient, scheduler: FakeScheduler
) -> None:
    job = await async_client.jobs.get(scheduler.add("a", job_pb2.JOB_STATE_CANCELLED))

    with pytest.raises(errors.JobCancelled):
        await job.wait(raise_on_failure=True)


def test_trainers_are_listed_read_and_cordoned(client: Client, scheduler: FakeScheduler) -> None:
    for name in ("trainers/a", "trainers/b"):
        scheduler.trainers[name] = trainer_pb2.Trainer(name=name)

    assert [trainer.name for trainer in client.trainers.list()] == ["trainers/a", "trainers/b"]
    assert client.trainers.cordon("b").cordoned
    assert client.trainers.get("trainers/b").cordoned
    assert not client.trainers.uncordon("b").cordoned
    with pytest.raises(errors.NotFound):
        client.trainers.get("c")


async def test_system_info_asks_each_host_and_names_the_one_that_is_silent(
    client: Client, async_client: AsyncClient, scheduler: FakeScheduler
) -> None:
    served = FakeTrainer().serve()
    hosts = {"trainers/a": served.address, "trainers/b": "127.0.0.1:1"}
    for name, address in hosts.items():
        scheduler.trainers[name] = trainer_pb2.Trainer(name=name, address=address)

    with Client(client.address, timeout=0.5) as hasty:
        answered, silent = hasty.system_info()
    [one] = await async_client.system_info("a")
    served.stop()

    assert answered.system is not None
    assert answered.system.hostname == "host-a"
    assert silent.system is None
    assert "cannot reach the trainer at 127.0.0.1:1" in str(silent.error)
    assert one.system == answered.system


def test_the_token_travels_with_every_call(
    scheduler: FakeScheduler, scheduler_server: Served
) -> None:
    with Client(scheduler_server.address, token="secret") as client:
        client.endpoints()

    assert scheduler.metadata[-1]["authorization"] == "Bearer secret"
    assert scheduler.calls(fleet_service_pb2.GetEndpointsRequest)
