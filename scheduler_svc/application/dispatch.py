"""One round of dispatch: from the queue's heads to assignments that are committed.

Looks at the queue by requirement, never job by job. A job becomes STARTING with
its next attempt in a guarded transaction before its trainer hears of it;
telling the trainer is the caller's, and an optimisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scheduler_svc.application.fleet import FleetBook
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.moves import Why, move, with_attempt
from scheduler_svc.application.orders import Delivery, assigned_run
from scheduler_svc.application.ports import Clock, Raced, Store, Writing
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.job import Attempt
from scheduler_svc.domain.policy import Placement, QueuedJob, assign, heads_needed
from scheduler_svc.domain.states import JobState

_MOVES_PER_TRANSACTION = 50


class Dispatch:
    """Places waiting jobs. One round at a time."""

    def __init__(
        self, store: Store, clock: Clock, settings: Settings, lead: Lead, fleet: FleetBook
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._lead = lead
        self._fleet = fleet

    def run(self) -> tuple[Delivery, ...]:
        """What is newly assigned, to be delivered. Raises NotLeader."""
        generation = self._lead.generation
        placements = self._place()[: self._settings.dispatch_moves_max]
        # By id, so that two transactions never wait for each other's rows.
        ordered = sorted(placements, key=lambda placement: placement.job_id)
        delivered: list[Delivery] = []
        for start in range(0, len(ordered), _MOVES_PER_TRANSACTION):
            some = ordered[start : start + _MOVES_PER_TRANSACTION]
            with self._store.write() as tx:
                tx.require_lead(generation)
                moved = [self._assign(tx, placement) for placement in some]
            delivered += [delivery for delivery in moved if delivery is not None]
        return tuple(delivered)

    def _place(self) -> Sequence[Placement]:
        with self._store.read() as tx:
            fleet = self._fleet.read(tx)
            queue: list[QueuedJob] = []
            for requirement in tx.queue_shapes():
                heads = heads_needed(requirement, fleet)
                if heads:
                    queue += tx.queue_heads(requirement, heads)
        return assign(queue, fleet, self._clock.now(), self._settings.reservation_after_seconds)

    def _assign(self, tx: Writing, placement: Placement) -> Delivery | None:
        """None if somebody else moved the job in between."""
        job = tx.job(placement.job_id)
        trainer = tx.trainer(placement.trainer_id)
        if job is None or trainer is None:
            return None
        if job.state is not JobState.QUEUED or job.attempt != placement.attempt:
            return None
        now = self._clock.now()
        attempt = Attempt(
            job.attempt + 1, trainer.trainer_id, trainer.incarnation, placement.gpu_ids, now
        )
        changed = replace(with_attempt(job, attempt), attempt=attempt.attempt)
        why = Why(f"assigned to trainers/{trainer.trainer_id}")
        try:
            move(tx, job, JobState.STARTING, now, why, changed)
        except Raced:
            return None
        tx.put_attempt(job.job_id, attempt)
        return Delivery(
            trainer.trainer_id,
            trainer.address,
            trainer.incarnation,
            assigned_run(changed, attempt),
        )
