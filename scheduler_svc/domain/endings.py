"""What becomes of a job when its attempt ends or its host is lost.

Pure decisions; the application writes them with a guard. Owns the retry rule:
cause, attempts_max, back-off, quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduler_svc.domain.failure import QUARANTINE_AFTER_ATTEMPTS, Failure, FailureCause
from scheduler_svc.domain.job import Attempt, Job
from scheduler_svc.domain.run import RunOutcome, RunReport
from scheduler_svc.domain.states import JobState


@dataclass(frozen=True, slots=True)
class Ending:
    """Where the job goes, and what is recorded of the attempt."""

    target: JobState
    reason: str = ""
    attempt_failure: Failure | None = None
    job_failure: Failure | None = None
    wait_seconds: float = 0.0
    """For RECOVERING: time until it goes back into the queue."""


def after_run(
    job: Job, attempt: Attempt, report: RunReport, wait_seconds_max: float
) -> Ending | None:
    """The run's processes are gone. None: nothing moves (it completed, and may ask to publish)."""
    if job.state is JobState.CANCELLING:
        return Ending(JobState.CANCELLED, "cancelled")
    if report.outcome is RunOutcome.COMPLETED:
        return None
    failure = _failure_of(report)
    match job.state:
        case JobState.PAUSING:
            return _after_pausing(failure)
        case JobState.PUBLISHING:
            failure = failure or _unasked("stopped while it published")
            return Ending(JobState.FAILED, failure.message, failure, failure)
        case JobState.STARTING | JobState.RUNNING if attempt.timed_out:
            return _timed_out(job)
        case JobState.STARTING | JobState.RUNNING:
            failure = failure or _unasked("stopped, though nobody had asked for it")
            return retry_or_fail(job, failure, wait_seconds_max)
        case _:
            return None


def after_loss(
    job: Job, failure: Failure, wait_seconds_max: float, *, at_once: bool = False
) -> Ending | None:
    """Nothing more will be heard of the attempt. None: it holds the grant, and is waited for.

    at_once: the next try needs no back-off (the host rebooted; it is not the job's fault).
    """
    match job.state:
        case JobState.CANCELLING:
            return Ending(JobState.CANCELLED, failure.message)
        case JobState.PAUSING:
            return Ending(JobState.PAUSED, failure.message, failure)
        case JobState.STARTING | JobState.RUNNING:
            ending = retry_or_fail(job, failure, wait_seconds_max)
            return replace(ending, wait_seconds=0.0) if at_once else ending
        case _:
            return None


def retry_or_fail(job: Job, failure: Failure, wait_seconds_max: float) -> Ending:
    """Another attempt, or the end. Attempts that ended in a pause are no failed tries."""
    causes = [one.failure.cause for one in job.attempts[:-1] if one.failure is not None]
    causes.append(failure.cause)
    if not failure.retryable:
        return Ending(JobState.FAILED, failure.message, failure, failure)
    if _took_trainers_down([*(one.failure for one in job.attempts[:-1]), failure]):
        return Ending(JobState.FAILED, failure.message, failure, _quarantined(failure))
    policy = job.spec.retry_policy
    if len(causes) >= policy.attempts_max:
        return Ending(JobState.FAILED, failure.message, failure, failure)
    wait = min(policy.backoff_seconds * 2.0 ** (len(causes) - 1), wait_seconds_max)
    return Ending(JobState.RECOVERING, failure.message, failure, wait_seconds=wait)


def _took_trainers_down(failures: list[Failure | None]) -> bool:
    last = failures[-QUARANTINE_AFTER_ATTEMPTS:]
    return len(last) == QUARANTINE_AFTER_ATTEMPTS and all(
        one is not None and one.cause is FailureCause.LOST for one in last
    )


def _quarantined(failure: Failure) -> Failure:
    return Failure(
        FailureCause.QUARANTINED,
        f"{QUARANTINE_AFTER_ATTEMPTS} attempts in a row took their trainer down, "
        f"the last: {failure.message}",
        "Look at the hosts' own logs around these times before you try it again.",
    )


def _failure_of(report: RunReport) -> Failure | None:
    if report.outcome is not RunOutcome.FAILED:
        return None
    return report.failure or Failure(FailureCause.CRASHED, "the attempt failed without a reason")


def _unasked(what: str) -> Failure:
    return Failure(FailureCause.CRASHED, f"the attempt {what}")


def _after_pausing(failure: Failure | None) -> Ending:
    if failure is None:
        return Ending(JobState.PAUSED, "paused")
    if failure.retryable or failure.cause is FailureCause.RUN_TIMEOUT:
        reason = f"failed while it paused, goes on from its last checkpoint: {failure.message}"
        return Ending(JobState.PAUSED, reason, failure)
    return Ending(JobState.FAILED, failure.message, failure, failure)


def _timed_out(job: Job) -> Ending:
    failure = Failure(
        FailureCause.RUN_TIMEOUT,
        f"the attempt ran longer than run_timeout ({job.spec.run_timeout_seconds:g} s)",
        "Retry the job with a longer run_timeout, or with fewer steps.",
    )
    return Ending(JobState.FAILED, failure.message, failure, failure)
