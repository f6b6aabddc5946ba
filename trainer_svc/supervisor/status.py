"""A run as RunStatus: what scheduler, heartbeat and ListRuns are told."""

from __future__ import annotations

from datetime import datetime

from tunewright.v1 import feed_pb2, job_pb2, registry_service_pb2
from tunewright.wire.times import timestamp

from trainer_svc.domain.runs import Failure, RunPhase
from trainer_svc.supervisor.run import Run


def stream_name(run: Run, stream: str) -> str:
    """The name of a run's feed stream within this source."""
    return f"runs/{run.key.job_id}/{run.key.attempt}/{stream}"


def status_of_run(run: Run, source: str) -> registry_service_pb2.RunStatus:
    """The run's status. Blocking: reads what was added to its spool."""
    status = registry_service_pb2.RunStatus(
        job=run.key.job,
        attempt=run.key.attempt,
        phase=registry_service_pb2.RunPhase.Value(run.phase),
    )
    if not run.collected and not run.tombstone:
        status.progress.CopyFrom(run.progress.read())
    _copy_time(status, "start_time", run.folder.start_time())
    if run.ending is not None:
        _fill_end(status, run, source)
    return status


def running_status(run: Run, source: str) -> registry_service_pb2.RunStatus:
    """The fact that the run's child did run, for a scheduler that may not have heard it."""
    status = status_of_run(run, source)
    status.phase = registry_service_pb2.RUN_PHASE_RUNNING
    for field in ("outcome", "failure", "output", "final_cursors", "end_time"):
        status.ClearField(field)
    return status


def failure_message(failure: Failure) -> job_pb2.Failure:
    """A failure on the wire."""
    return job_pb2.Failure(
        cause=job_pb2.FailureCause.Value(failure.cause),
        message=failure.message,
        hint=failure.hint,
        exception_type=failure.exception_type,
        exit_code=failure.exit_code,
    )


def _fill_end(status: registry_service_pb2.RunStatus, run: Run, source: str) -> None:
    assert run.ending is not None
    status.outcome = registry_service_pb2.RunOutcome.Value(run.ending.outcome)
    if run.ending.failure is not None:
        status.failure.CopyFrom(failure_message(run.ending.failure))
    _copy_time(status, "end_time", run.folder.end_time())
    for stream in run.streams:
        size = run.folder.stream_size(stream)
        if size:
            cursor = feed_pb2.FeedCursor(
                source=source, stream=stream_name(run, stream), position=size
            )
            status.final_cursors.append(cursor)
    published = run.folder.published() if run.phase is RunPhase.PUBLISHED else None
    if published is not None:
        status.output.path = published["path"]
        status.output.manifest_digest = published["manifest_digest"]


def _copy_time(status: registry_service_pb2.RunStatus, field: str, moment: datetime | None) -> None:
    if moment is not None:
        getattr(status, field).CopyFrom(timestamp(moment))
