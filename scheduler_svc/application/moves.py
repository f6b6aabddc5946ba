"""The only way a job changes state: table, guard and event, in one transaction.

Owns the pairing of each guarded move with its feed event. Refuses with
ForbiddenMove what the table does not have; a guard that does not hold raises
Raced, upon which the use case starts over (`retrying`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from scheduler_svc.application import entries
from scheduler_svc.application.ports import Guard, Raced, Writing
from scheduler_svc.domain.endings import Ending
from scheduler_svc.domain.errors import ForbiddenMove
from scheduler_svc.domain.failure import Failure
from scheduler_svc.domain.job import Attempt, FinalCursor, Job
from scheduler_svc.domain.states import TERMINAL, WITH_ATTEMPT, JobState, may_move
from svckit.refusal import DatabaseBusy

T = TypeVar("T")

_TRIES = 8


def retrying(use_case: Callable[[], T]) -> T:
    """Runs a use case until no other move comes in between. Each try is a new transaction."""
    for _ in range(_TRIES):
        try:
            return use_case()
        except Raced:
            continue
    raise DatabaseBusy("the job is being moved by others", retry_delay_seconds=0.5)


@dataclass(frozen=True, slots=True)
class Why:
    """What a move's event says besides the two states."""

    reason: str = ""
    failure: Failure | None = None
    final_cursors: Sequence[FinalCursor] = ()
    keeps_output_dir: bool = False
    """Of a job that fails or is cancelled: its result may stand there all the same."""


def move(
    tx: Writing,
    job: Job,
    target: JobState,
    now: datetime,
    why: Why | None = None,
    changed: Job | None = None,
) -> Job:
    """Moves `job` as it was read to `target`, and tells the feed.

    `changed` is the same job with other changes to be written along.
    """
    why = why or Why()
    if not may_move(job.state, target):
        raise ForbiddenMove(job.job_id, job.state, target)
    moved = _stamped(changed or job, target, now)
    if not tx.move_job(guard_of(job), moved):
        raise Raced(job.job_id)
    tx.append_entry(
        job.job_id,
        entries.state_change(job.state, moved, now, why.reason, why.failure, why.final_cursors),
    )
    leaves_nothing = target in (JobState.FAILED, JobState.CANCELLED)
    if leaves_nothing and not why.keeps_output_dir:
        tx.release_output_dir(job.job_id)
    return moved


def guard_of(job: Job) -> Guard:
    """What must still hold for a change that was decided on `job` as it was read."""
    bound = job.current.incarnation if job.current and job.state in WITH_ATTEMPT else None
    return Guard(job.state, job.attempt, bound)


def _stamped(job: Job, target: JobState, now: datetime) -> Job:
    return replace(
        job,
        state=target,
        update_time=now,
        queue_time=now if target is JobState.QUEUED else job.queue_time,
        not_before=job.not_before if target is JobState.RECOVERING else None,
        end_time=now if target in TERMINAL else None,
    )


def with_attempt(job: Job, attempt: Attempt) -> Job:
    """The job with one of its attempts replaced, or added."""
    others = tuple(one for one in job.attempts if one.attempt != attempt.attempt)
    ordered = sorted((*others, attempt), key=lambda one: one.attempt)
    return replace(job, attempts=tuple(ordered))


@dataclass(frozen=True, slots=True)
class EndOfAttempt:
    """What is known of the end besides where it leads."""

    end_time: datetime
    final_cursors: Sequence[FinalCursor] = ()
    slot_held: bool = False
    """The host may still be computing: its slot stays taken until it returns."""
    keeps_output_dir: bool = False


def end_attempt(tx: Writing, job: Job, ending: Ending, end: EndOfAttempt, now: datetime) -> Job:
    """Records the end of the current attempt, and moves the job where that leads."""
    assert job.current is not None  # an attempt that ends has begun
    attempt = replace(
        job.current,
        end_time=end.end_time,
        failure=ending.attempt_failure,
        slot_held=end.slot_held,
    )
    changed = replace(
        with_attempt(job, attempt),
        failure=ending.job_failure,
        not_before=now + timedelta(seconds=ending.wait_seconds),
    )
    failure = ending.job_failure or ending.attempt_failure
    why = Why(ending.reason, failure, end.final_cursors, end.keeps_output_dir)
    moved = move(tx, job, ending.target, now, why, changed)
    tx.put_attempt(job.job_id, attempt)
    return moved
