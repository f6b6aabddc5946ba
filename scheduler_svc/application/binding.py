"""A trainer service has started: which of its runs go on, and which are gone.

One transaction: the trainer's record, and every attempt that was on it. Owns
the reading of a reboot (the boot id is another one: nothing from before runs)
and of a folder that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from scheduler_svc.application.lead import Lead
from scheduler_svc.application.moves import (
    EndOfAttempt,
    Why,
    end_attempt,
    guard_of,
    move,
    with_attempt,
)
from scheduler_svc.application.orders import current_jobs
from scheduler_svc.application.ports import Clock, Raced, Store, Writing
from scheduler_svc.application.reports import RunReports
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.endings import after_loss
from scheduler_svc.domain.errors import StaleIncarnation
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.fleet import Trainer
from scheduler_svc.domain.job import Job
from scheduler_svc.domain.run import Registration, RunKey, RunOutcome, RunReport
from scheduler_svc.domain.states import JobState


@dataclass(frozen=True, slots=True)
class _Start:
    """What a registration says that a binding needs."""

    registration: Registration
    rebooted: bool
    now: datetime
    reports: dict[RunKey, RunReport]


class Binding:
    """Binds attempts to a trainer's new start."""

    def __init__(
        self, store: Store, clock: Clock, settings: Settings, lead: Lead, reports: RunReports
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._lead = lead
        self._reports = reports

    def bind(self, registration: Registration) -> None:
        """Raises NotLeader, Raced, StaleIncarnation."""
        now = self._clock.now()
        trainer_id = registration.reporter.trainer_id
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            old = tx.trainer(trainer_id)
            _refuse_an_earlier_start(registration, old)
            rebooted = old is not None and old.boot_id != registration.boot_id
            tx.put_trainer(_trainer(registration, old, now, rebooted=rebooted))
            start = _Start(
                registration, rebooted, now, {report.key: report for report in registration.runs}
            )
            for job in current_jobs(tx, trainer_id):
                self._bind_job(tx, job, start)
            _release_gone(tx, start)

    def _bind_job(self, tx: Writing, job: Job, start: _Start) -> None:
        assert job.current is not None  # current_jobs gives no others
        report = start.reports.get(RunKey(job.job_id, job.current.attempt))
        if start.rebooted and _died_with_the_host(job, report):
            self._lose(tx, job, start, _rebooted(start.registration), at_once=True)
        elif report is None and _is_missed(job, start.registration):
            self._lose(tx, job, start, _folder_gone(start.registration), at_once=False)
        else:
            bound = _rebound(tx, job, start.registration.reporter.incarnation)
            if report is not None and _can_be_taken(bound, report):
                self._reports.take(tx, bound, report)

    def _lose(
        self, tx: Writing, job: Job, start: _Start, failure: Failure, *, at_once: bool
    ) -> None:
        ending = after_loss(job, failure, self._settings.backoff_seconds_max, at_once=at_once)
        if ending is None:
            return
        moved = end_attempt(tx, job, ending, EndOfAttempt(start.now), start.now)
        if at_once and moved.state is JobState.RECOVERING:
            move(tx, moved, JobState.QUEUED, start.now, Why("the host is back after a reboot"))


def _refuse_an_earlier_start(registration: Registration, old: Trainer | None) -> None:
    """A registration may come late, when a later start of the service has registered."""
    if old is None or old.workspace_uuid != registration.workspace_uuid:
        return
    if registration.reporter.incarnation < old.incarnation:
        raise StaleIncarnation(old.trainer_id, registration.reporter.incarnation, old.incarnation)


def _trainer(
    registration: Registration, old: Trainer | None, now: datetime, *, rebooted: bool
) -> Trainer:
    """The record after a registration; what people decided (a cordon) stays."""
    told = Trainer(
        trainer_id=registration.reporter.trainer_id,
        address=registration.address,
        incarnation=registration.reporter.incarnation,
        boot_id=registration.boot_id,
        workspace_uuid=registration.workspace_uuid,
        capabilities=registration.capabilities,
        create_time=now,
        gpus=registration.gpus,
        heartbeat_time=now,
    )
    if old is None:
        return told
    return replace(
        told,
        create_time=old.create_time,
        cordoned=old.cordoned,
        faulty_gpu_ids=frozenset() if rebooted else old.faulty_gpu_ids,
        disk_bytes_free=old.disk_bytes_free,
    )


def _rebound(tx: Writing, job: Job, incarnation: str) -> Job:
    assert job.current is not None  # current_jobs gives no others
    attempt = replace(job.current, incarnation=incarnation)
    bound = with_attempt(job, attempt)
    if not tx.move_job(guard_of(job), bound):
        raise Raced(job.job_id)
    tx.put_attempt(job.job_id, attempt)
    return bound


def _release_gone(tx: Writing, start: _Start) -> None:
    """Slots of runs that were given up before, and that this host does not hold any more."""
    trainer_id = start.registration.reporter.trainer_id
    bound = {
        RunKey(job.job_id, job.current.attempt)
        for job in current_jobs(tx, trainer_id)
        if job.current is not None
    }
    for slot in tx.held_slots(trainer_id):
        key = RunKey(slot.job_id, slot.attempt)
        report = start.reports.get(key)
        gone = report is None or report.is_over or start.rebooted
        if key not in bound and gone:
            tx.release_slot(key)


def _is_missed(job: Job, registration: Registration) -> bool:
    """Whether a run that the registration does not list is gone.

    STARTING is delivered again; PUBLISHING is never given up by itself. A run that
    was given to this very start began after a registration that comes late, or twice.
    """
    assert job.current is not None  # current_jobs gives no others
    given_to_it = job.current.incarnation == registration.reporter.incarnation
    return not given_to_it and job.state not in (JobState.STARTING, JobState.PUBLISHING)


def _died_with_the_host(job: Job, report: RunReport | None) -> bool:
    """Whether a reboot ended the run, rather than the run itself before it."""
    if job.state is JobState.PUBLISHING:
        return False
    if report is None:
        return job.state is not JobState.STARTING
    if not report.is_over:
        return True
    failure = report.failure
    return report.outcome is RunOutcome.FAILED and (
        failure is None or failure.cause is FailureCause.CRASHED
    )


def _can_be_taken(job: Job, report: RunReport) -> bool:
    return report.output is None or job.state is JobState.PUBLISHING


def _rebooted(registration: Registration) -> Failure:
    return Failure(
        FailureCause.LOST, f"trainers/{registration.reporter.trainer_id} rebooted while it ran"
    )


def _folder_gone(registration: Registration) -> Failure:
    name = f"trainers/{registration.reporter.trainer_id}"
    return Failure(FailureCause.CRASHED, f"{name} came back without the folder of the run")
