"""Jobs as people see them: the record, its latest progress, and why it waits."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler_svc.application.fleet import FleetBook
from scheduler_svc.application.ports import Clock, Reading, Store
from scheduler_svc.application.progress import ProgressBoard
from scheduler_svc.domain.job import Job, JobView, Plan
from scheduler_svc.domain.pending import pending_reason
from scheduler_svc.domain.planned_command import planned_argv
from scheduler_svc.domain.policy import could_ever_run
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.states import JobState

_WITH_REASON = frozenset({JobState.QUEUED, JobState.RECOVERING, JobState.PUBLISHING})


class Views:
    """Derives what is not stored."""

    def __init__(
        self, store: Store, clock: Clock, fleet: FleetBook, progress: ProgressBoard
    ) -> None:
        self._store = store
        self._clock = clock
        self._fleet = fleet
        self._progress = progress

    def of(self, job: Job) -> JobView:
        """One job, in a transaction of its own."""
        with self._store.read() as tx:
            return self.in_transaction(tx, [job])[0]

    def in_transaction(self, tx: Reading, jobs: Sequence[Job]) -> list[JobView]:
        """Jobs that were just read."""
        waiting = any(job.state in _WITH_REASON for job in jobs)
        fleet = self._fleet.read(tx) if waiting else {}
        progress = self._progress.read(tx, [job.job_id for job in jobs if job.attempt])
        now = self._clock.now()
        return [
            JobView(job, pending_reason(job, fleet, now), progress.get(job.job_id)) for job in jobs
        ]

    def planned(self, job: Job) -> JobView:
        """A job that is not stored, with the trainers that fit once they are free."""
        with self._store.read() as tx:
            fleet = self._fleet.read(tx)
        need = Requirement.of(job.spec)
        fitting = {one: host for one, host in fleet.items() if could_ever_run(need, host)}
        plan = Plan(tuple(fitting), planned_argv(job.spec, fitting.values()))
        return JobView(job, pending_reason(job, fleet, self._clock.now()), plan=plan)
