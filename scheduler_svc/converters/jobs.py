"""Jobs, attempts, failures and progress, to and from their messages."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tunewright.v1 import job_pb2
from tunewright.wire.names import job_name, trainer_name
from tunewright.wire.times import duration, moment, seconds_of, timestamp

from scheduler_svc.converters.text import finite, line, lines
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.job import Attempt, Job, JobOutput, JobView, Plan, Progress
from svckit.spec.wire import spec_to_proto

FAILURE_MESSAGE_CHARACTERS_MAX = 8192
PATH_CHARACTERS_MAX = 8192
REVISIONS_MAX = 100
# What validate_only looks at. The rest is on the disks of trainers.
CHECKED = (
    "the form and the ranges of every field, and what the recipe allows",
    "that no other job has the output folder, and that the queue has room",
    "which registered trainers have the backend and the devices",
)
NOT_CHECKED = (
    "the model: whether the trainer has it, and can train it",
    "the data: whether it can be read, and what becomes of its rows",
    "whether model and batches fit into the memory of a GPU",
    "the trainer's disk: free space, and whether the output folder is free there",
)


def job_message(view: JobView) -> job_pb2.Job:
    """A job as people see it. One that is only planned has no name."""
    job = view.job
    message = job_pb2.Job(
        name=job_name(job.job_id) if job.job_id else "",
        display_name=job.display_name,
        labels=dict(job.labels),
        priority=job.priority,
        spec=spec_to_proto(job.spec),
        state=job_pb2.JobState.Value(job.state.value),
        pending_reason=view.pending_reason,
        attempt=job.attempt,
        attempts=[_attempt_message(attempt) for attempt in job.attempts],
        retry_of=job_name(job.retry_of) if job.retry_of else "",
        recipe=job.recipe,
        progress=progress_message(view.progress) if view.progress else None,
        failure=failure_message(job.failure) if job.failure else None,
        output=output_message(job.output) if job.output else None,
        plan=_plan_message(view.plan) if view.plan else None,
    )
    _put_times(message, job)
    return message


def _put_times(message: job_pb2.Job, job: Job) -> None:
    _put_time(message.create_time, job.create_time)
    _put_time(message.update_time, job.update_time)
    if job.start_time is not None:
        _put_time(message.start_time, job.start_time)
    if job.end_time is not None:
        _put_time(message.end_time, job.end_time)
    if job.delete_time is not None:
        _put_time(message.delete_time, job.delete_time)


def _put_time(target: Timestamp, value: datetime) -> None:
    target.CopyFrom(timestamp(value))


def _attempt_message(attempt: Attempt) -> job_pb2.Attempt:
    message = job_pb2.Attempt(
        attempt=attempt.attempt,
        trainer=trainer_name(attempt.trainer_id),
        gpu_ids=attempt.gpu_ids,
        assign_time=timestamp(attempt.assign_time),
        failure=failure_message(attempt.failure) if attempt.failure else None,
    )
    if attempt.start_time is not None:
        _put_time(message.start_time, attempt.start_time)
    if attempt.end_time is not None:
        _put_time(message.end_time, attempt.end_time)
    return message


def _plan_message(plan: Plan) -> job_pb2.JobPlan:
    trainers = [trainer_name(name) for name in plan.trainer_ids]
    return job_pb2.JobPlan(
        trainers=trainers, argv=plan.argv, checked=CHECKED, not_checked=NOT_CHECKED
    )


def output_message(output: JobOutput) -> job_pb2.JobOutput:
    """Where a result is."""
    return job_pb2.JobOutput(path=output.path, manifest_digest=output.manifest_digest)


def output_of(message: job_pb2.JobOutput) -> JobOutput:
    """Where a trainer says that a result is."""
    return JobOutput(lines(message.path, PATH_CHARACTERS_MAX), line(message.manifest_digest))


def failure_message(failure: Failure) -> job_pb2.Failure:
    """Why something failed."""
    return job_pb2.Failure(
        cause=job_pb2.FailureCause.Value(failure.cause.value),
        message=failure.message,
        hint=failure.hint,
        exception_type=failure.exception_type,
        exit_code=failure.exit_code,
    )


def failure_of(message: job_pb2.Failure) -> Failure:
    """Why a trainer says that a run failed. A cause that is not known here is INTERNAL."""
    causes = {job_pb2.FailureCause.Value(cause.value): cause for cause in FailureCause}
    cause = causes.get(message.cause, FailureCause.INTERNAL)
    return Failure(
        cause=FailureCause.INTERNAL if cause is FailureCause.UNSPECIFIED else cause,
        message=lines(message.message, FAILURE_MESSAGE_CHARACTERS_MAX),
        hint=lines(message.hint, FAILURE_MESSAGE_CHARACTERS_MAX),
        exception_type=line(message.exception_type),
        exit_code=message.exit_code if message.HasField("exit_code") else None,
    )


def progress_message(progress: Progress) -> job_pb2.Progress:
    """How far a run is."""
    message = job_pb2.Progress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        learning_rate=progress.learning_rate,
        tokens_per_second=progress.tokens_per_second,
        phase=progress.phase,
        checkpoint_step=progress.checkpoint_step,
        revisions=progress.revisions,
    )
    if progress.eta_seconds is not None:
        message.eta.CopyFrom(duration(progress.eta_seconds))
    if progress.update_time is not None:
        message.update_time.CopyFrom(timestamp(progress.update_time))
    return message


def progress_of(message: job_pb2.Progress) -> Progress:
    """How far a trainer says that a run is. Raises ValueError for an impossible time."""
    values = {
        name: finite(getattr(message, name)) if message.HasField(name) else None
        for name in ("loss", "eval_loss", "learning_rate", "tokens_per_second")
    }
    return Progress(
        step=message.step,
        total_steps=message.total_steps,
        epoch=finite(message.epoch) or 0.0,
        **values,
        eta_seconds=seconds_of(message.eta) if message.HasField("eta") else None,
        phase=line(message.phase),
        update_time=moment(message.update_time) if message.HasField("update_time") else None,
        checkpoint_step=message.checkpoint_step if message.HasField("checkpoint_step") else None,
        revisions={
            line(name): line(message.revisions[name])
            for name in sorted(message.revisions)[:REVISIONS_MAX]
        },
    )
