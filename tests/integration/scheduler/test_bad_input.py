"""Bad input over a real connection: reason, message and every field, and nothing lost."""

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tunewright.v1 import fleet_service_pb2, job_pb2, job_service_pb2, spec_pb2

from tests.integration.scheduler.conftest import sqlite_config
from tests.integration.scheduler.harness import (
    FakeTrainer,
    SchedulerHandle,
    a_job,
    creation,
    refusal_of,
    running_scheduler,
)


async def bad_fields_of(scheduler: SchedulerHandle, job: job_pb2.Job) -> dict[str, str]:
    refused = await refusal_of(scheduler.jobs.CreateJob(creation(job)))
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    return {violation.field: violation.description for violation in refused.violations}


async def count_jobs(scheduler: SchedulerHandle) -> int:
    answer = await scheduler.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1000))
    return len(answer.jobs)


@pytest.mark.parametrize(
    ("hyperparameters", "field", "words"),
    [
        ({"learning_rate": -1e-4}, "learning_rate", "greater than 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size", "at least 1"),
        ({"lora_dropout": 1.0}, "lora_dropout", "less than 1"),
        ({"num_train_epochs": float("nan")}, "num_train_epochs", "finite"),
    ],
)
async def test_a_hyperparameter_out_of_range_is_named(scheduler, hyperparameters, field, words):
    job = a_job()
    job.spec.hyperparameters.MergeFrom(spec_pb2.Hyperparameters(**hyperparameters))

    refused = await bad_fields_of(scheduler, job)

    assert words in refused[f"job.spec.hyperparameters.{field}"]
    assert await count_jobs(scheduler) == 0


async def test_an_unknown_hyperparameter_is_refused_and_not_dropped(scheduler):
    job = a_job()
    job.spec.hyperparameters.MergeFromString(b"\xf8\x07\x01")  # field 127, varint 1

    refused = await bad_fields_of(scheduler, job)

    assert "127" in refused["job.spec.hyperparameters"]
    assert "older than the client" in refused["job.spec.hyperparameters"]
    assert await count_jobs(scheduler) == 0


@pytest.mark.parametrize(
    ("output_dir", "words"),
    [
        ("", "required"),
        ("../elsewhere", "'..'"),
        ("a/../../elsewhere", "'..'"),
        ("/tmp/elsewhere", "absolute"),
        ("a\0b", "U+0000"),
        ("n" * 300, "255 bytes"),
    ],
)
async def test_an_output_dir_that_leads_elsewhere_is_refused(scheduler, output_dir, words):
    refused = await bad_fields_of(scheduler, a_job(output_dir))

    assert words in refused["job.spec.output_dir"]
    assert await count_jobs(scheduler) == 0


@pytest.mark.parametrize("output_dir", ["runs/one", "runs/one/", "runs", "runs/one/below"])
async def test_an_output_dir_that_is_taken_is_refused_and_its_job_named(scheduler, output_dir):
    first = await scheduler.jobs.CreateJob(creation(a_job("runs/one")))

    refused = await refusal_of(scheduler.jobs.CreateJob(creation(a_job(output_dir))))

    assert (refused.code, refused.reason) == ("ALREADY_EXISTS", "OUTPUT_DIR_TAKEN")
    assert refused.metadata["job"] == first.name
    assert first.name in refused.message
    assert await count_jobs(scheduler) == 1


async def test_all_bad_fields_of_a_request_are_named_in_one_refusal(scheduler):
    job = a_job("../x")
    job.priority = 1001
    job.display_name = "x" * 129
    job.labels["Bad Key"] = "x"
    job.labels["long"] = "x" * 129
    job.spec.hyperparameters.learning_rate = -1
    request = creation(job, request_id="x" * 65, job_id="Not An Id")

    refused = await refusal_of(scheduler.jobs.CreateJob(request))

    assert {violation.field for violation in refused.violations} == {
        "request_id",
        "job_id",
        "job.priority",
        "job.display_name",
        "job.labels[Bad Key]",
        "job.labels[long]",
        "job.spec.hyperparameters.learning_rate",
        "job.spec.output_dir",
    }


async def test_the_limits_of_labels_and_names_hold_at_their_edges(scheduler):
    at_the_edge, beyond = a_job("edge"), a_job("beyond")
    for index in range(63):
        at_the_edge.labels[f"k{index}"] = "x" * 128
    at_the_edge.display_name = "x" * 128
    at_the_edge.priority = -1000
    for index in range(64):
        beyond.labels[f"k{index}"] = "x"

    accepted = await scheduler.jobs.CreateJob(
        creation(at_the_edge, request_id="r" * 64, job_id="a" * 63)
    )
    refused = await bad_fields_of(scheduler, beyond)

    assert accepted.name == "jobs/" + "a" * 63
    assert len(accepted.labels) == 64
    assert refused == {"job.labels": "must be at most 64; got 65"}


async def test_a_request_without_a_spec_says_so(scheduler):
    refused = await bad_fields_of(scheduler, job_pb2.Job())

    assert refused == {"job.spec": "is required"}


async def test_hundreds_of_bad_fields_still_fit_the_answer(scheduler):
    job = a_job()
    job.spec.eval_data.extend([spec_pb2.DataSource(source="./relative")] * 100)

    refused = await refusal_of(scheduler.jobs.CreateJob(creation(job)))

    assert refused.reason == "INVALID_REQUEST"
    assert len(refused.violations) > 10
    assert refused.violations[-1].description.startswith("and ")


async def test_a_message_over_the_limit_is_refused_and_the_connection_lives(scheduler):
    job = a_job()
    job.spec.system_prompt = "x" * (5 * 1024 * 1024)

    refused = await refusal_of(scheduler.jobs.CreateJob(creation(job)))

    assert refused.code == "RESOURCE_EXHAUSTED"
    assert scheduler.channel.get_state() is grpc.ChannelConnectivity.READY
    assert await count_jobs(scheduler) == 0


@pytest.mark.parametrize("token", ["nonsense", "####", "A" * 40, "A" * 10_000])
async def test_a_bad_page_token_is_refused(scheduler, token):
    jobs = await refusal_of(
        scheduler.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_token=token))
    )
    trainers = await refusal_of(
        scheduler.fleet.ListTrainers(fleet_service_pb2.ListTrainersRequest(page_token=token))
    )

    for refused in (jobs, trainers):
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert [violation.field for violation in refused.violations] == ["page_token"]


async def test_a_page_token_of_another_list_is_refused(scheduler):
    for index in range(3):
        await scheduler.jobs.CreateJob(creation(a_job(f"runs/{index}")))
    first = await scheduler.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1))

    refused = await refusal_of(
        scheduler.jobs.ListJobs(
            job_service_pb2.ListJobsRequest(page_token=first.next_page_token, filter="state=QUEUED")
        )
    )

    assert [violation.field for violation in refused.violations] == ["page_token"]
    assert "the same" in refused.violations[0].description


async def test_a_bad_list_request_names_each_bad_field(scheduler):
    request = job_service_pb2.ListJobsRequest(
        filter="state=QUEUED AND", order_by="colour", page_size=1001
    )

    refused = await refusal_of(scheduler.jobs.ListJobs(request))

    found = {violation.field: violation.description for violation in refused.violations}
    assert set(found) == {"filter", "order_by", "page_size"}
    assert "position 16" in found["filter"]
    assert "expected a field" in found["filter"]


@pytest.mark.parametrize(
    "verb",
    [
        "StartJob",
        "GetJob",
        "CancelJob",
        "PauseJob",
        "ResumeJob",
        "RetryJob",
        "DeleteJob",
        "AbandonJob",
    ],
)
async def test_every_verb_names_the_unknown_job_and_the_bad_name(scheduler, verb):
    call = getattr(scheduler.jobs, verb)
    request = getattr(job_service_pb2, f"{verb}Request")

    unknown = await refusal_of(call(request(name="jobs/none")))
    malformed = await refusal_of(call(request(name="jobs/No Such")))

    assert (unknown.code, unknown.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert "jobs/none" in unknown.message
    assert malformed.reason == "INVALID_REQUEST"
    assert [violation.field for violation in malformed.violations] == ["name"]


async def test_a_forbidden_move_names_both_states(scheduler):
    job = await scheduler.jobs.CreateJob(creation())
    await scheduler.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=job.name))

    refused = await refusal_of(
        scheduler.jobs.ResumeJob(job_service_pb2.ResumeJobRequest(name=job.name))
    )

    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "FORBIDDEN_MOVE")
    assert "CANCELLED" in refused.message
    assert "QUEUED" in refused.message
    assert refused.metadata["state"] == "JOB_STATE_CANCELLED"
    assert refused.metadata["target"] == "JOB_STATE_QUEUED"


async def test_an_update_of_what_cannot_be_changed_is_refused(scheduler):
    job = await scheduler.jobs.CreateJob(creation())
    job.priority = 7000

    refused = await refusal_of(
        scheduler.jobs.UpdateJob(
            job_service_pb2.UpdateJobRequest(
                job=job, update_mask=FieldMask(paths=["spec", "priority"])
            )
        )
    )
    without_mask = await refusal_of(
        scheduler.jobs.UpdateJob(job_service_pb2.UpdateJobRequest(job=job))
    )

    assert {violation.field for violation in refused.violations} == {
        "update_mask",
        "job.priority",
    }
    assert [violation.field for violation in without_mask.violations] == ["update_mask"]


async def test_a_gpu_that_does_not_exist_is_accepted_and_its_wait_explained_at_once(
    scheduler: SchedulerHandle, trainer: FakeTrainer
):
    missing, many, swift = (a_job(f"runs/{index}", on_gpu=True) for index in range(3))
    missing.spec.resources.gpu_ids.append("7")
    many.spec.resources.gpu_count = 8
    swift.spec.backend = spec_pb2.BACKEND_SWIFT

    created = [await scheduler.jobs.CreateJob(creation(job)) for job in (missing, many, swift)]

    assert [job.state for job in created] == [job_pb2.JOB_STATE_QUEUED] * 3
    assert "7" in created[0].pending_reason
    assert "more than 2 GPUs" in created[1].pending_reason
    assert "swift" in created[2].pending_reason.lower()


async def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path):
    async with running_scheduler(sqlite_config(tmp_path, queue_max=2)) as small:
        for index in range(2):
            await small.jobs.CreateJob(creation(a_job(f"runs/{index}")))

        refused = await refusal_of(small.jobs.CreateJob(creation(a_job("runs/2"))))

    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert refused.retry_delay_seconds
