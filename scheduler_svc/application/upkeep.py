"""What time does to records: lost hosts, retries that are due, run timeouts, storing and removing.

Called about once a second by the leader. Each step makes its own short
transactions. Leases and run timeouts go by the monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from scheduler_svc.application import entries
from scheduler_svc.application.expiry import Expiry
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.liveness import Liveness
from scheduler_svc.application.moves import Why, guard_of, move, retrying, with_attempt
from scheduler_svc.application.ports import Clock, Raced, Store
from scheduler_svc.application.progress import ProgressBoard
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.job import JobId, TrainerId
from scheduler_svc.domain.run import RunKey
from scheduler_svc.domain.states import TERMINAL, JobState

_JOBS_PER_ROUND = 500


@dataclass(frozen=True, slots=True)
class UpkeepResult:
    """What a round did, for the log and for waking others."""

    lost: tuple[TrainerId, ...] = ()
    mass_silence: bool = False
    """So many trainers are silent that none is given up."""
    requeued: tuple[JobId, ...] = ()
    timed_out: tuple[RunKey, ...] = ()
    removed: tuple[JobId, ...] = ()


class Upkeep:
    """The leader's chores."""

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
        self._expiry = Expiry(store, clock, settings, lead, liveness)
        self._seen_running: dict[RunKey, tuple[float, float]] = {}
        self._flushed_at: float | None = None

    def run(self) -> UpkeepResult:
        """One round of everything. Raises NotLeader."""
        lost, mass_silence = self._expiry.run()
        requeued = self.requeue()
        timed_out = self.time_out()
        self._flush_when_due()
        return UpkeepResult(lost, mass_silence, requeued, timed_out, self.collect_deleted())

    def requeue(self) -> tuple[JobId, ...]:
        """RECOVERING jobs whose back-off is over become QUEUED."""
        now = self._clock.now()
        with self._store.read() as tx:
            due = tx.due_recoveries(now, _JOBS_PER_ROUND)
        return tuple(job_id for job_id in due if retrying(partial(self._requeue, job_id)))

    def time_out(self) -> tuple[RunKey, ...]:
        """Attempts that have run longer than run_timeout get their stop order."""
        now = self._clock.monotonic()
        with self._store.read() as tx:
            running = tx.timed_runs()
        seen = {}
        late = []
        for run in running:
            # The wall clock is asked once, when the run is first seen; from then on a
            # clock that jumps ends nothing early.
            age = (self._clock.now() - run.start_time).total_seconds()
            age_then, then = self._seen_running.get(run.key, (max(0.0, age), now))
            seen[run.key] = (age_then, then)
            if age_then + (now - then) >= run.run_timeout_seconds:
                late.append(run.key)
        self._seen_running = seen
        return tuple(key for key in late if retrying(partial(self._time_out, key)))

    def flush(self) -> None:
        """Stores the latest progress and host samples."""
        self._progress.flush()
        dirty = sorted(self._liveness.take_dirty())
        if not dirty:
            return
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            for trainer_id in dirty:
                trainer = tx.trainer(trainer_id)
                if trainer is not None:
                    tx.put_trainer(self._liveness.latest(trainer))

    def collect_deleted(self) -> tuple[JobId, ...]:
        """Removes jobs marked for deletion that nothing needs any more."""
        now = self._clock.now()
        with self._store.read() as tx:
            marked = tx.deleted_before(now, _JOBS_PER_ROUND)
        return tuple(job_id for job_id in marked if self._collect(job_id))

    def _flush_when_due(self) -> None:
        now = self._clock.monotonic()
        if self._flushed_at is None or now - self._flushed_at >= self._settings.flush_after_seconds:
            self._flushed_at = now
            self.flush()

    def _requeue(self, job_id: JobId) -> bool:
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            job = tx.job(job_id)
            if job is None or job.state is not JobState.RECOVERING:
                return False
            move(tx, job, JobState.QUEUED, self._clock.now(), Why("tries again"))
            return True

    def _time_out(self, key: RunKey) -> bool:
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            job = tx.job(key.job_id)
            if job is None or job.current is None or job.current.attempt != key.attempt:
                return False
            if job.state is not JobState.RUNNING or job.current.timed_out:
                return False
            attempt = replace(job.current, timed_out=True)
            if not tx.move_job(guard_of(job), with_attempt(job, attempt)):
                raise Raced(key.job_id)
            tx.put_attempt(key.job_id, attempt)
            message = f"run_timeout ({job.spec.run_timeout_seconds:g} s) has passed"
            now = self._clock.now()
            entry = entries.event(job, now, entries.WARNING, "RUN_TIMEOUT", message)
            tx.append_entry(key.job_id, entry)
            return True

    def _collect(self, job_id: JobId) -> bool:
        """A job stays while a host may still hold a run of it, or a monitor lacks its events."""
        with self._store.write() as tx:
            tx.require_lead(self._lead.generation)
            job = tx.job(job_id)
            if job is None or job.state not in TERMINAL:
                return False
            if any(attempt.slot_held for attempt in job.attempts):
                return False
            last = tx.last_position_of(job_id)
            if any(monitor.position < last for monitor in tx.monitors()):
                return False
            tx.remove_job(job_id)
            return True
