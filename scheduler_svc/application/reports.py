"""What trainers report of single runs, and the one grant to publish.

Each report is fenced by (job, attempt, incarnation) and idempotent. Refuses a
stale one with StaleAttempt (end the run, publish nothing), and one that this
database does not know with JobNotFound or RunNotFound (keep it).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from scheduler_svc.application.lead import Lead
from scheduler_svc.application.moves import (
    EndOfAttempt,
    Why,
    end_attempt,
    guard_of,
    move,
    retrying,
    with_attempt,
)
from scheduler_svc.application.ports import Clock, Raced, Store, Writing
from scheduler_svc.application.progress import ProgressBoard
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.endings import Ending, after_run
from scheduler_svc.domain.errors import (
    ForbiddenMove,
    JobNotFound,
    RunNotFound,
    StaleAttempt,
)
from scheduler_svc.domain.failure import FailureCause
from scheduler_svc.domain.job import Attempt, Job
from scheduler_svc.domain.reports import Standing, changes_record, standing
from scheduler_svc.domain.run import Reporter, RunKey, RunPhase, RunReport
from scheduler_svc.domain.states import JobState


class RunReports:
    """Takes reports of runs."""

    def __init__(
        self, store: Store, clock: Clock, settings: Settings, lead: Lead, progress: ProgressBoard
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._lead = lead
        self._progress = progress

    def report_run(self, reporter: Reporter, report: RunReport) -> JobState:
        """The job's state after it.

        Raises StaleAttempt, JobNotFound, RunNotFound, ForbiddenMove, NotLeader.
        """
        job, was = retrying(lambda: self._report(reporter, report))
        if job is None:
            raise JobNotFound(report.key.job_id)
        if was is Standing.UNKNOWN:
            raise RunNotFound(job.job_id, report.key.attempt)
        if was is Standing.STALE or (was is Standing.RECORDED and not report.is_over):
            raise StaleAttempt(job.job_id, report.key.attempt)
        self._progress.note(job.job_id, report.progress)
        return job.state

    def begin_publish(self, reporter: Reporter, key: RunKey) -> JobState:
        """RUNNING becomes PUBLISHING. Asked again by the same attempt, it is granted again.

        Raises StaleAttempt, JobNotFound, RunNotFound, ForbiddenMove, NotLeader.
        """
        return retrying(lambda: self._grant(reporter, key)).state

    def take(self, tx: Writing, job: Job, report: RunReport) -> Job:
        """Records what a report of the CURRENT attempt says; the transaction leads."""
        if not changes_record(job, report):
            return job
        current = job.current
        assert current is not None  # it reports for one
        now = self._clock.now()
        match report.phase:
            case RunPhase.PUBLISHED:
                return _published(tx, job, report, now)
            case RunPhase.ENDED:
                return self._ended(tx, job, current, report, now)
            case _:
                return _runs(tx, job, current, report.start_time or now, now)

    def _report(self, reporter: Reporter, report: RunReport) -> tuple[Job | None, Standing]:
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            job = tx.job(report.key.job_id)
            was = standing(job, report.key, reporter)
            if job is not None and was is Standing.CURRENT:
                return self.take(tx, job, report), was
            if job is not None and was is not Standing.UNKNOWN and report.is_over:
                release_if_its_own(tx, job, report.key, reporter)
            return job, was

    def _grant(self, reporter: Reporter, key: RunKey) -> Job:
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            job = tx.job(key.job_id)
            was = standing(job, key, reporter)
            if job is None:
                raise JobNotFound(key.job_id)
            if was is Standing.UNKNOWN:
                raise RunNotFound(key.job_id, key.attempt)
            if was is not Standing.CURRENT or job.current is None:
                raise StaleAttempt(key.job_id, key.attempt)
            if job.state is JobState.PUBLISHING:
                return job
            now = self._clock.now()
            if job.state is JobState.STARTING:  # the report that it runs was lost
                job = _runs(tx, job, job.current, now, now)
            return move(tx, job, JobState.PUBLISHING, now, Why("training has ended well"))

    def _ended(
        self, tx: Writing, job: Job, current: Attempt, report: RunReport, now: datetime
    ) -> Job:
        ending = after_run(job, current, report, self._settings.backoff_seconds_max)
        if ending is None:
            return _runs(tx, job, current, report.start_time or now, now)
        if report.start_time is not None and current.start_time is None:
            job = _with_start(job, current, report.start_time)
        end = EndOfAttempt(report.end_time or now, report.final_cursors)
        moved = end_attempt(tx, job, ending, end, now)
        if report.failure is not None and report.failure.cause is FailureCause.GPU_FAULT:
            _set_gpus_aside(tx, current)
        return moved


def release_if_its_own(tx: Writing, job: Job, key: RunKey, reporter: Reporter) -> None:
    """A run that is not current any more is over: what it still held there is free."""
    for attempt in job.attempts:
        if attempt.attempt == key.attempt and attempt.trainer_id == reporter.trainer_id:
            tx.release_slot(key)


def _runs(tx: Writing, job: Job, current: Attempt, start_time: datetime, now: datetime) -> Job:
    changed = _with_start(job, current, current.start_time or start_time)
    if job.state is JobState.STARTING:
        job = move(tx, job, JobState.RUNNING, now, changed=changed)
    elif tx.move_job(guard_of(job), changed):
        job = changed
    else:
        raise Raced(job.job_id)
    assert changed.current is not None  # just set
    tx.put_attempt(job.job_id, changed.current)
    return job


def _with_start(job: Job, current: Attempt, start_time: datetime) -> Job:
    started = with_attempt(job, replace(current, start_time=start_time))
    return replace(started, start_time=job.start_time or start_time)


def _published(tx: Writing, job: Job, report: RunReport, now: datetime) -> Job:
    if job.state is not JobState.PUBLISHING:
        raise ForbiddenMove(job.job_id, job.state, JobState.SUCCEEDED, "it has no grant to publish")
    with_output = replace(job, output=report.output)
    end = EndOfAttempt(report.end_time or now, report.final_cursors)
    return end_attempt(tx, with_output, Ending(JobState.SUCCEEDED), end, now)


def _set_gpus_aside(tx: Writing, attempt: Attempt) -> None:
    trainer = tx.trainer(attempt.trainer_id)
    if trainer is not None:
        faulty = trainer.faulty_gpu_ids | set(attempt.gpu_ids)
        tx.put_trainer(replace(trainer, faulty_gpu_ids=faulty))
