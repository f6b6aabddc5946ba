"""Records to and from messages: nothing that is known is lost, nothing odd gets through."""

import math
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tunewright.v1 import feed_pb2, job_pb2, registry_service_pb2, spec_pb2, trainer_pb2

from scheduler_svc.converters.jobs import (
    failure_message,
    failure_of,
    job_message,
    progress_message,
    progress_of,
)
from scheduler_svc.converters.runs import (
    assignment_message,
    heartbeat_of,
    registration_of,
    report_of,
    stop_message,
)
from scheduler_svc.converters.trainers import capabilities_message, capabilities_of, gpus_of
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.job import Attempt, Job, JobId, JobOutput, JobView, Progress, TrainerId
from scheduler_svc.domain.run import AssignedRun, RunKey, RunOutcome, RunPhase, StopMode, StopOrder
from scheduler_svc.domain.states import JobState
from svckit.refusal import InvalidRequest
from svckit.spec import Backend, JobSpec

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
SPEC = JobSpec.from_mapping(
    {"model": {"name": "a/b"}, "train_data": [{"source": "/d.json"}], "output_dir": "one"}
)
registry = registry_service_pb2


def test_a_job_is_shown_whole():
    failure = Failure(FailureCause.CRASHED, "it ended", "look at the log", "", -9)
    attempt = Attempt(1, TrainerId("gpu-1"), "i", ("0", "1"), NOW, NOW, NOW, failure)
    job = Job(
        JobId("job-1"),
        SPEC,
        JobState.SUCCEEDED,
        NOW,
        NOW,
        display_name="name",
        labels={"a": "b"},
        priority=-3,
        attempt=1,
        attempts=(attempt,),
        failure=failure,
        output=JobOutput("/out/one", "sha256:00"),
        retry_of=JobId("job-0"),
        recipe="recipes/r@2",
        start_time=NOW,
        end_time=NOW,
        delete_time=NOW,
    )

    message = job_message(JobView(job, "because", Progress(step=4, loss=0.5)))

    unset = {field.name for field in message.DESCRIPTOR.fields} - {
        field.name for field, _ in message.ListFields()
    }
    assert unset == {"plan"}
    assert message.name == "jobs/job-1"
    assert message.retry_of == "jobs/job-0"
    assert message.recipe == "recipes/r@2"
    assert message.attempts[0].trainer == "trainers/gpu-1"
    assert message.attempts[0].failure.exit_code == -9
    assert message.end_time.ToDatetime(tzinfo=UTC) == NOW


@pytest.mark.parametrize("cause", [one for one in FailureCause if one.name != "UNSPECIFIED"])
def test_every_cause_survives_the_wire(cause):
    failure = Failure(cause, "message", "hint", "torch.OutOfMemoryError", 1)

    assert failure_of(failure_message(failure)) == failure


@pytest.mark.parametrize("number", [0, 99])
def test_a_cause_that_is_not_known_here_is_internal(number):
    assert failure_of(job_pb2.Failure(cause=number)).cause is FailureCause.INTERNAL


def test_every_enum_of_the_domain_has_its_proto_name():
    for phase in RunPhase:
        assert registry.RunPhase.Value(phase.value)
    for mode in StopMode:
        assert registry.StopMode.Value(mode.value)
    for outcome in RunOutcome:
        assert registry.RunOutcome.Value(outcome.value) >= 0
    for state in JobState:
        assert job_pb2.JobState.Value(state.value)


def test_what_a_process_printed_is_made_fit_for_a_database():
    message = job_pb2.Failure(
        cause=job_pb2.FAILURE_CAUSE_CRASHED,
        message="a\0b" + "x" * 10_000,
        exception_type="\0" * 300,
    )

    failure = failure_of(message)

    assert failure.message.startswith("a\ufffdb")
    assert len(failure.message) == 8192
    assert "\0" not in failure.exception_type
    assert len(failure.exception_type) == 256


def test_progress_survives_the_wire_and_leaves_out_what_is_no_number():
    pinned = {"acme/tiny": "c0", "datasets/acme/talk": "d0"}
    progress = Progress(3, 10, 0.5, 1.25, None, 2e-4, 100.0, 12.5, "training", NOW, 2, pinned)
    broken = job_pb2.Progress(step=1, loss=math.nan, learning_rate=math.inf, epoch=math.nan)

    assert progress_of(progress_message(progress)) == progress
    assert progress_of(broken) == Progress(step=1)


def test_what_a_trainer_says_of_hub_commits_is_bounded():
    many = {f"acme/{number:04}": "c" * 1000 for number in range(1000)}

    progress = progress_of(job_pb2.Progress(revisions=many))

    assert len(progress.revisions) == 100
    assert max(map(len, progress.revisions.values())) == 256


def test_an_assignment_and_a_stop_name_their_run():
    key = RunKey(JobId("job-1"), 2)

    assignment = assignment_message(AssignedRun(key, SPEC, ("1",), resume=True))
    stop = stop_message(StopOrder(key, StopMode.PAUSE, 30.0))
    without_grace = stop_message(StopOrder(key, StopMode.FENCE))

    assert (assignment.job, assignment.attempt, assignment.resume) == ("jobs/job-1", 2, True)
    assert list(assignment.gpu_ids) == ["1"]
    assert assignment.spec.output_dir == "one"
    assert (stop.job, stop.mode) == ("jobs/job-1", registry.STOP_MODE_PAUSE)
    assert stop.grace.ToSeconds() == 30
    assert not without_grace.HasField("grace")


def test_a_run_is_read_with_everything_that_is_said_of_it():
    request = registry.ReportRunRequest(
        trainer="trainers/gpu-1.example",
        incarnation="i",
        run=registry.RunStatus(
            job="jobs/job-1",
            attempt=1,
            phase=registry.RUN_PHASE_ENDED,
            outcome=registry.RUN_OUTCOME_FAILED,
            failure=job_pb2.Failure(cause=job_pb2.FAILURE_CAUSE_HUNG),
            final_cursors=[feed_pb2.FeedCursor(source="w", stream="s", position=7)],
            start_time=Timestamp(seconds=1),
        ),
    )

    reporter, report = report_of(request)

    assert reporter.trainer_id == "gpu-1.example"
    assert report.key == RunKey(JobId("job-1"), 1)
    assert report.phase is RunPhase.ENDED
    assert report.outcome is RunOutcome.FAILED
    assert report.failure is not None
    assert report.failure.cause is FailureCause.HUNG
    assert report.final_cursors[0].position == 7
    assert report.start_time == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert report.end_time is None


def test_a_heartbeat_names_each_bad_run():
    request = registry.HeartbeatRequest(
        trainer="jobs/a",
        incarnation="i",
        runs=[
            registry.RunStatus(job="jobs/ok", attempt=1, phase=registry.RUN_PHASE_RUNNING),
            registry.RunStatus(job="jobs/ok", attempt=0, phase=registry.RUN_PHASE_RUNNING),
            registry.RunStatus(job="jobs/ok", attempt=1),
            registry.RunStatus(
                job="jobs/ok",
                attempt=1,
                phase=registry.RUN_PHASE_RUNNING,
                start_time=Timestamp(seconds=10**15),
            ),
        ],
    )

    with pytest.raises(InvalidRequest) as caught:
        heartbeat_of(request)

    assert [violation.field for violation in caught.value.violations] == [
        "trainer",
        "runs[1].attempt",
        "runs[2].phase",
        "runs[3]",
    ]


def test_a_registration_without_what_fencing_needs_is_refused():
    request = registry.RegisterTrainerRequest(trainer="trainers/a", address="nowhere")

    with pytest.raises(InvalidRequest) as caught:
        registration_of(request)

    assert {violation.field for violation in caught.value.violations} == {
        "incarnation",
        "address",
        "boot_id",
        "workspace_uuid",
    }


def test_a_newer_trainers_backend_is_left_out_and_the_rest_is_kept():
    message = trainer_pb2.TrainerCapabilities(
        backends=[spec_pb2.BACKEND_QLORA, 77],  # type: ignore[list-item] # not known here
        cpu_slots=2,
        version="9.9",
        artifact_store="s",
        missing_backends={"BACKEND_SWIFT": "not installed"},
        backend_versions={"BACKEND_QLORA": "1.2"},
        backend_notes={"BACKEND_QLORA": "no operators"},
        families=[
            trainer_pb2.FamilySupport(
                family="Qwen2.5-VL",
                backend=spec_pb2.BACKEND_QLORA,
                reads_pictures=True,
                missing_packages=["torchvision"] * 20,
            ),
            trainer_pb2.FamilySupport(family="Qwen3", backend=77),  # type: ignore[arg-type]
        ],
        features=[trainer_pb2.FeatureSupport(feature="LoRA", backend=spec_pb2.BACKEND_QLORA)],
    )

    capabilities = capabilities_of(message)

    assert capabilities.backends == (Backend.QLORA,)
    assert [one.family for one in capabilities.families] == ["Qwen2.5-VL"]
    assert capabilities.families[0].missing_packages == ("torchvision",) * 16
    assert capabilities_of(capabilities_message(capabilities)) == capabilities


def test_a_gpu_that_does_not_tell_its_temperature_has_none():
    silent = trainer_pb2.Gpu(gpu_id="0", memory_bytes_total=5)
    telling = trainer_pb2.Gpu(gpu_id="1", temperature_celsius=0, power_watts=0.0, foreign_pids=[9])

    first, second = gpus_of([silent, telling])

    assert (first.temperature_celsius, first.power_watts) == (None, None)
    assert (second.temperature_celsius, second.power_watts) == (0, 0.0)
    assert second.foreign_pids == (9,)
