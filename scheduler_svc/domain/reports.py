"""What a trainer's report means for the record: the fencing check.

Pure. A report counts only for the job's current attempt, from the trainer and
the start of its service that the attempt is bound to. What the database does
not know is UNKNOWN, never STALE: absence must not stop a run.
"""

from __future__ import annotations

from enum import Enum

from scheduler_svc.domain.job import Job
from scheduler_svc.domain.run import Reporter, RunKey, RunOutcome, RunPhase, RunReport
from scheduler_svc.domain.states import JobState


class Standing(Enum):
    """How a run stands to the record."""

    CURRENT = "current"
    """The job's latest attempt, not ended, bound to this reporter."""
    RECORDED = "recorded"
    """The same, but its end is in the record already."""
    STALE = "stale"
    """Given away, or bound to somebody else: to be ended, never published."""
    UNKNOWN = "unknown"
    """Of an empty or older database: kept, never stopped."""


def standing(job: Job | None, key: RunKey, reporter: Reporter) -> Standing:
    """How the run `key`, held by `reporter`, stands to the record."""
    if job is None or key.attempt > job.attempt:
        return Standing.UNKNOWN
    current = job.current
    if current is None or key.attempt != current.attempt:
        return Standing.STALE
    if current.trainer_id != reporter.trainer_id or current.incarnation != reporter.incarnation:
        return Standing.STALE
    return Standing.CURRENT if current.end_time is None else Standing.RECORDED


def changes_record(job: Job, report: RunReport) -> bool:
    """Whether a report of the CURRENT attempt says something that is not yet recorded."""
    current = job.current
    match report.phase:
        case RunPhase.PREPARING:
            return False
        case RunPhase.RUNNING:
            return current is not None and (
                current.start_time is None or job.state is JobState.STARTING
            )
        case RunPhase.ENDED if report.outcome is RunOutcome.COMPLETED:
            return job.state in (JobState.STARTING, JobState.CANCELLING)
        case RunPhase.ENDED | RunPhase.PUBLISHED:
            return True
