"""What the scheduler writes into its feed: moves of jobs, and events.

Owns the translation to tunewright.v1.Entry, which is stored serialised. Imports
protobuf and no grpc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from tunewright.v1 import feed_pb2, job_pb2

from scheduler_svc.domain.failure import Failure
from scheduler_svc.domain.job import FinalCursor, Job, JobId, TrainerId
from scheduler_svc.domain.states import WITH_ATTEMPT, JobState

INFO = feed_pb2.SEVERITY_INFO
WARNING = feed_pb2.SEVERITY_WARNING
ERROR = feed_pb2.SEVERITY_ERROR

TEXT_CHARACTERS_MAX = 4_096
"""Keeps an entry far below the feed's 64 KiB, whatever an exception had to say."""


def state_change(
    source: JobState | None,
    job: Job,
    time: datetime,
    reason: str = "",
    failure: Failure | None = None,
    final_cursors: Sequence[FinalCursor] = (),
) -> bytes:
    """The job moved from `source` (None: it is new) to the state it has now."""
    entry = _entry(job.job_id, job.attempt, time)
    change = entry.state_change
    if source is not None:
        setattr(change, "from", job_pb2.JobState.Value(source.value))
    change.to = job_pb2.JobState.Value(job.state.value)
    change.reason = _cut(reason)
    if failure is not None:
        change.failure.CopyFrom(_failure(failure))
    if job.output is not None:
        change.output.path = job.output.path
        change.output.manifest_digest = job.output.manifest_digest
    for cursor in final_cursors:
        change.final_cursors.add(
            source=cursor.source, stream=cursor.stream, position=cursor.position
        )
    if job.current is not None and (job.state in WITH_ATTEMPT or source in WITH_ATTEMPT):
        change.trainer = f"trainers/{job.current.trainer_id}"
    return entry.SerializeToString(deterministic=True)


def event(
    job: Job,
    time: datetime,
    severity: feed_pb2.Severity.ValueType,
    kind: str,
    message: str,
    details: Mapping[str, str] | None = None,
) -> bytes:
    """Something worth knowing about the job; `kind` is UPPER_SNAKE_CASE."""
    entry = _entry(job.job_id, job.attempt, time)
    entry.event.severity = severity
    entry.event.type = kind
    entry.event.message = _cut(message)
    entry.event.details.update(details or {})
    return entry.SerializeToString(deterministic=True)


def stop_unconfirmed(job: Job, trainer_id: TrainerId, time: datetime) -> bytes:
    """Said before a cancel or a pause ends without word from the host of an attempt."""
    return event(
        job,
        time,
        WARNING,
        "STOP_UNCONFIRMED",
        f"trainers/{trainer_id} is lost: its processes of this job may still run; "
        "they are ended when it returns, and its slot stays taken until then",
        {"stop_unconfirmed": "true", "trainer": f"trainers/{trainer_id}"},
    )


def _entry(job_id: JobId, attempt: int, time: datetime) -> feed_pb2.Entry:
    entry = feed_pb2.Entry(job=f"jobs/{job_id}", attempt=attempt)
    entry.time.FromDatetime(time)
    return entry


def _failure(failure: Failure) -> job_pb2.Failure:
    return job_pb2.Failure(
        cause=job_pb2.FailureCause.Value(failure.cause.value),
        message=_cut(failure.message),
        hint=_cut(failure.hint),
        exception_type=failure.exception_type,
        exit_code=failure.exit_code,
    )


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else text[: TEXT_CHARACTERS_MAX - 1] + "…"
