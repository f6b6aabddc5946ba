"""Trainers make themselves known, and say again and again what they hold.

Register binds the living runs of current attempts to the trainer's new start;
each heartbeat's answer repeats what is to be started and stopped. What the
database does not know is kept and named in `unknown_runs`, never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from scheduler_svc.application.binding import Binding
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.liveness import Liveness, Sample
from scheduler_svc.application.moves import retrying
from scheduler_svc.application.orders import assigned_run, current_jobs, stop_order
from scheduler_svc.application.ports import Clock, Installation, Reading, Store
from scheduler_svc.application.progress import ProgressBoard
from scheduler_svc.application.reports import RunReports
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.errors import ForbiddenMove, NotLeader, RunNotFound, StaleAttempt
from scheduler_svc.domain.job import JobId, TrainerId
from scheduler_svc.domain.reports import Standing, changes_record, standing
from scheduler_svc.domain.run import (
    AssignedRun,
    Heartbeat,
    Registration,
    Reporter,
    RunKey,
    RunReport,
    StopMode,
    StopOrder,
)
from scheduler_svc.domain.states import JobState


@dataclass(frozen=True, slots=True)
class RegisterAnswer:
    """See RegisterTrainerResponse."""

    installation: Installation
    heartbeat_seconds: float
    stale_runs: tuple[RunKey, ...]
    acknowledged_runs: tuple[RunKey, ...]
    unknown_runs: tuple[RunKey, ...]
    """Kept; for the log only."""


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """See HeartbeatResponse."""

    installation: Installation
    assignments: tuple[AssignedRun, ...] = ()
    stops: tuple[StopOrder, ...] = ()
    acknowledged_runs: tuple[RunKey, ...] = ()
    unknown_runs: tuple[RunKey, ...] = ()
    """Kept; for the log only."""
    register_again: bool = False


class Registry:
    """The use cases of TrainerRegistryService."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: Settings,
        lead: Lead,
        liveness: Liveness,
        progress: ProgressBoard,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._lead = lead
        self._liveness = liveness
        self._progress = progress
        self._reports = RunReports(store, clock, settings, lead, progress)
        self._binding = Binding(store, clock, settings, lead, self._reports)

    def register(self, registration: Registration) -> RegisterAnswer:
        """Makes a trainer known under its new start. Idempotent. Raises NotLeader."""
        installation = self._lead.installation
        retrying(lambda: self._binding.bind(registration))
        trainer_id = registration.reporter.trainer_id
        self._liveness.heard(trainer_id, self._clock.monotonic())
        with self._store.read() as tx:
            runs = self._standings(tx, registration.reporter, registration.runs)
        return RegisterAnswer(
            installation,
            self._settings.heartbeat_seconds,
            tuple(report.key for report, was in runs if _is_stale(report, was)),
            tuple(report.key for report, was in runs if _is_acknowledged(report, was)),
            tuple(report.key for report, was in runs if was is Standing.UNKNOWN),
        )

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        """Takes what a trainer says, and repeats what it is to do. Raises NotLeader.

        A heartbeat that comes late moves nothing, but is answered.
        """
        installation = self._lead.installation
        reporter = beat.reporter
        with self._store.read() as tx:
            _check_lead(tx, installation)
            trainer = tx.trainer(reporter.trainer_id)
        if trainer is None or trainer.incarnation != reporter.incarnation:
            return HeartbeatAnswer(installation, register_again=True)
        if not self._liveness.is_late(beat):
            if trainer.lost_time is not None:
                self._welcome_back(reporter.trainer_id)
            self._liveness.heard(reporter.trainer_id, self._clock.monotonic())
            sample = Sample(self._clock.now(), beat.gpus, beat.disk_bytes_free)
            self._liveness.sampled(reporter.trainer_id, sample)
            self._take_runs(reporter, beat.runs)
        return self._answer(installation, beat)

    def report_run(self, reporter: Reporter, report: RunReport) -> JobState:
        """See RunReports.report_run."""
        return self._reports.report_run(reporter, report)

    def begin_publish(self, reporter: Reporter, key: RunKey) -> JobState:
        """See RunReports.begin_publish."""
        return self._reports.begin_publish(reporter, key)

    def _welcome_back(self, trainer_id: TrainerId) -> None:
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            trainer = tx.trainer(trainer_id)
            if trainer is not None:
                tx.put_trainer(replace(trainer, lost_time=None))

    def _take_runs(self, reporter: Reporter, runs: Iterable[RunReport]) -> None:
        """Writes only what is new: most heartbeats change nothing in the database."""
        listed = sorted(runs, key=lambda report: report.key)
        with self._store.read() as tx:
            slots = tx.held_slots(reporter.trainer_id)
            jobs = tx.jobs({*(one.key.job_id for one in listed), *(one.job_id for one in slots)})
        held = {RunKey(slot.job_id, slot.attempt) for slot in slots}
        for report in listed:
            job = jobs.get(report.key.job_id)
            was = standing(job, report.key, reporter)
            if job is not None and was is Standing.CURRENT:
                self._progress.note(job.job_id, report.progress)
                if changes_record(job, report):
                    self._report_again(reporter, report)
            elif report.is_over and report.key in held:
                self._report_again(reporter, report)
        living = {report.key for report in listed}
        for key in sorted(held - living):
            if standing(jobs.get(key.job_id), key, reporter) is not Standing.CURRENT:
                self._release(reporter.trainer_id, key)

    def _report_again(self, reporter: Reporter, report: RunReport) -> None:
        with suppress(StaleAttempt, ForbiddenMove, RunNotFound):
            self._reports.report_run(reporter, report)

    def _release(self, trainer_id: TrainerId, key: RunKey) -> None:
        """The host is back and does not hold that run any more."""
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            if any(
                (slot.job_id, slot.attempt) == (key.job_id, key.attempt)
                for slot in tx.held_slots(trainer_id)
            ):
                tx.release_slot(key)

    def _answer(self, installation: Installation, beat: Heartbeat) -> HeartbeatAnswer:
        reporter = beat.reporter
        with self._store.read() as tx:
            runs = self._standings(tx, reporter, beat.runs)
            bound = [
                job
                for job in current_jobs(tx, reporter.trainer_id)
                if job.current is not None and job.current.incarnation == reporter.incarnation
            ]
        orders = [order for job in bound if (order := stop_order(job, self._settings))]
        fences = [
            StopOrder(report.key, StopMode.FENCE) for report, was in runs if _is_stale(report, was)
        ]
        return HeartbeatAnswer(
            installation,
            tuple(
                assigned_run(job, job.current)
                for job in bound
                if job.state is JobState.STARTING and job.current is not None
            ),
            (*orders, *fences),
            tuple(report.key for report, was in runs if _is_acknowledged(report, was)),
            tuple(report.key for report, was in runs if was is Standing.UNKNOWN),
        )

    def _standings(
        self, tx: Reading, reporter: Reporter, runs: Iterable[RunReport]
    ) -> list[tuple[RunReport, Standing]]:
        listed = sorted(runs, key=lambda report: report.key)
        ids: set[JobId] = {report.key.job_id for report in listed}
        jobs = tx.jobs(ids)
        return [
            (report, standing(jobs.get(report.key.job_id), report.key, reporter))
            for report in listed
        ]


def _is_stale(report: RunReport, was: Standing) -> bool:
    return was in (Standing.STALE, Standing.RECORDED) and not report.is_over


def _is_acknowledged(report: RunReport, was: Standing) -> bool:
    return was in (Standing.STALE, Standing.RECORDED) and report.is_over


def _check_lead(tx: Reading, installation: Installation) -> None:
    there = tx.installation()
    current = there.generation if there else 0
    if current != installation.generation:
        raise NotLeader(installation.generation, current)
