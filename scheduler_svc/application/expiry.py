"""Giving up hosts that are silent for too long.

A lost host's jobs go on elsewhere; a cancel or a pause that waits for it ends,
and says that it was not confirmed. Its slots stay taken until it is back and
says what it holds. A host that publishes is waited for.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from scheduler_svc.application import entries
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.liveness import Liveness
from scheduler_svc.application.moves import EndOfAttempt, end_attempt, retrying
from scheduler_svc.application.orders import current_jobs
from scheduler_svc.application.ports import Clock, Store, Writing
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.endings import after_loss
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.job import Job, TrainerId
from scheduler_svc.domain.states import JobState


class Expiry:
    """Moves trainers to LOST, and their jobs along."""

    def __init__(
        self, store: Store, clock: Clock, settings: Settings, lead: Lead, liveness: Liveness
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._lead = lead
        self._liveness = liveness

    def run(self) -> tuple[tuple[TrainerId, ...], bool]:
        """Trainers that were given up, and whether a mass silence kept others. Raises NotLeader."""
        generation = self._lead.generation
        expired, mass_silence = self._liveness.expired(self._clock.monotonic())
        lost = []
        for trainer_id in expired:
            if retrying(partial(self._give_up, trainer_id, generation)):
                self._liveness.drop(trainer_id)
                lost.append(trainer_id)
        return tuple(lost), mass_silence

    def _give_up(self, trainer_id: TrainerId, generation: int) -> bool:
        now = self._clock.now()
        with self._store.write() as tx:
            tx.require_lead(generation)
            if not self._liveness.is_expired(trainer_id, self._clock.monotonic()):
                return False
            trainer = tx.trainer(trainer_id)
            if trainer is not None:
                tx.put_trainer(replace(trainer, lost_time=now))
            for job in current_jobs(tx, trainer_id):
                self._lose(tx, job, trainer_id, now)
            return True

    def _lose(self, tx: Writing, job: Job, trainer_id: TrainerId, now: datetime) -> None:
        silence = f"{self._settings.lost_after_seconds:g} s"
        failure = Failure(
            FailureCause.LOST, f"trainers/{trainer_id} has not been heard of for {silence}"
        )
        ending = after_loss(job, failure, self._settings.backoff_seconds_max)
        if ending is None:
            return
        if ending.target in (JobState.CANCELLED, JobState.PAUSED):
            tx.append_entry(job.job_id, entries.stop_unconfirmed(job, trainer_id, now))
        end_attempt(tx, job, ending, EndOfAttempt(now, slot_held=True), now)
