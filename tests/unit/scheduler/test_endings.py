"""What becomes of a job when its attempt ends."""

from __future__ import annotations

import pytest
from tunewright.v1 import job_pb2

from scheduler_svc.domain.endings import after_loss, after_run, retry_or_fail
from scheduler_svc.domain.failure import RETRYABLE, Failure, FailureCause
from scheduler_svc.domain.job import Job, JobId
from scheduler_svc.domain.run import RunKey, RunOutcome, RunPhase, RunReport
from scheduler_svc.domain.states import MOVES, JobState
from tests.unit.scheduler.builders import START, attempt, job, running, spec

S = JobState
CRASHED = Failure(FailureCause.CRASHED, "exit code 1")
BAD_DATA = Failure(FailureCause.DATASET_INVALID, "a.jsonl:3: not JSON")
LOST = Failure(FailureCause.LOST, "silent")
WAIT_MAX = 3600.0


def ended(outcome: RunOutcome, failure: Failure | None = None) -> RunReport:
    return RunReport(RunKey(JobId("a"), 1), RunPhase.ENDED, outcome, failure)


def after(state: JobState, report: RunReport, *, timed_out: bool = False) -> JobState | None:
    one = attempt(start_time=START, timed_out=timed_out)
    limited = spec("a", run_timeout_seconds=60.0)
    ending = after_run(
        job("a", state, spec=limited, attempt=1, attempts=(one,)), one, report, WAIT_MAX
    )
    return ending.target if ending else None


COMPLETED = ended(RunOutcome.COMPLETED)
STOPPED = ended(RunOutcome.STOPPED)
CRASH = ended(RunOutcome.FAILED, CRASHED)
BAD = ended(RunOutcome.FAILED, BAD_DATA)


@pytest.mark.parametrize(
    ("state", "report", "target"),
    [
        (S.STARTING, COMPLETED, None),
        (S.STARTING, CRASH, S.RECOVERING),
        (S.STARTING, BAD, S.FAILED),
        (S.STARTING, STOPPED, S.RECOVERING),
        (S.RUNNING, COMPLETED, None),
        (S.RUNNING, CRASH, S.RECOVERING),
        (S.RUNNING, BAD, S.FAILED),
        (S.RUNNING, STOPPED, S.RECOVERING),
        (S.PUBLISHING, COMPLETED, None),
        (S.PUBLISHING, CRASH, S.FAILED),
        (S.PUBLISHING, STOPPED, S.FAILED),
        (S.PAUSING, STOPPED, S.PAUSED),
        (S.PAUSING, CRASH, S.PAUSED),
        (S.PAUSING, BAD, S.FAILED),
        (S.PAUSING, COMPLETED, None),
        (S.CANCELLING, STOPPED, S.CANCELLED),
        (S.CANCELLING, CRASH, S.CANCELLED),
        (S.CANCELLING, COMPLETED, S.CANCELLED),
    ],
)
def test_the_end_of_a_run_leads_on(
    state: JobState, report: RunReport, target: JobState | None
) -> None:
    found = after(state, report)

    assert found is target
    assert found is None or found in MOVES[state]


@pytest.mark.parametrize("report", [STOPPED, CRASH])
def test_a_run_that_was_stopped_for_its_timeout_fails_and_is_not_retried(
    report: RunReport,
) -> None:
    assert after(S.RUNNING, report, timed_out=True) is S.FAILED
    assert after(S.PAUSING, report, timed_out=True) is S.PAUSED
    assert after(S.RUNNING, COMPLETED, timed_out=True) is None


@pytest.mark.parametrize(
    ("state", "target"),
    [
        (S.STARTING, S.RECOVERING),
        (S.RUNNING, S.RECOVERING),
        (S.PAUSING, S.PAUSED),
        (S.CANCELLING, S.CANCELLED),
        (S.PUBLISHING, None),
    ],
)
def test_the_loss_of_a_host_leads_on(state: JobState, target: JobState | None) -> None:
    ending = after_loss(running(state=state), LOST, WAIT_MAX)

    assert (ending.target if ending else None) is target


def failed_times(count: int, cause: FailureCause, attempts_max: int = 10) -> Job:
    """A job whose attempts failed so many times, and which runs once more."""
    tries = [attempt(number, failure=Failure(cause, "x")) for number in range(1, count + 1)]
    tries.append(attempt(count + 1, start_time=START))
    return job(
        "a",
        S.RUNNING,
        spec=spec("a", attempts_max=attempts_max),
        attempt=count + 1,
        attempts=tuple(tries),
    )


def test_the_wait_doubles_up_to_a_bound() -> None:
    waits = [
        retry_or_fail(failed_times(count, FailureCause.CRASHED), CRASHED, 60.0).wait_seconds
        for count in range(5)
    ]

    assert waits == [10.0, 20.0, 40.0, 60.0, 60.0]


def test_after_attempts_max_failures_the_job_fails_with_the_last_cause() -> None:
    last = retry_or_fail(failed_times(2, FailureCause.CRASHED, attempts_max=3), CRASHED, WAIT_MAX)

    assert last.target is S.FAILED
    assert last.job_failure == CRASHED


def test_an_attempt_that_ended_in_a_pause_is_no_failed_try() -> None:
    paused = (attempt(1), attempt(2), attempt(3, start_time=START))
    one = job("a", S.RUNNING, spec=spec("a", attempts_max=3), attempt=3, attempts=paused)

    assert retry_or_fail(one, CRASHED, WAIT_MAX).target is S.RECOVERING


def test_three_attempts_in_a_row_that_took_their_trainer_down_are_quarantined() -> None:
    third = retry_or_fail(failed_times(2, FailureCause.LOST), LOST, WAIT_MAX)
    second = retry_or_fail(failed_times(1, FailureCause.LOST), LOST, WAIT_MAX)
    other = retry_or_fail(failed_times(2, FailureCause.CRASHED), LOST, WAIT_MAX)

    assert third.target is S.FAILED
    assert third.job_failure is not None
    assert third.job_failure.cause is FailureCause.QUARANTINED
    assert (second.target, other.target) == (S.RECOVERING, S.RECOVERING)


def test_a_loss_through_a_reboot_is_retried_at_once() -> None:
    ending = after_loss(running(), LOST, WAIT_MAX, at_once=True)

    assert ending is not None
    assert (ending.target, ending.wait_seconds) == (S.RECOVERING, 0.0)


def test_a_hub_that_was_away_is_tried_again() -> None:
    away = Failure(FailureCause.NETWORK, "the hub answers 503")

    assert retry_or_fail(running(), away, WAIT_MAX).target is S.RECOVERING


def test_causes_are_those_of_the_contract() -> None:
    assert {cause.value for cause in FailureCause} == set(job_pb2.FailureCause.keys())


@pytest.mark.parametrize(
    "cause",
    [
        FailureCause.DATASET_INVALID,
        FailureCause.MODEL_INVALID,
        FailureCause.CONFIG_INVALID,
        FailureCause.DIVERGED,
        FailureCause.GPU_OUT_OF_MEMORY,
        FailureCause.RUN_TIMEOUT,
        FailureCause.OUTPUT_INVALID,
        FailureCause.QUARANTINED,
        FailureCause.NOTHING_TO_TRAIN,
    ],
)
def test_what_another_attempt_cannot_mend_is_not_retried(cause: FailureCause) -> None:
    assert cause not in RETRYABLE
