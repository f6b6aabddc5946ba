"""What a trainer is to start and to stop: derived from the record, stored nowhere.

A lost call costs nothing, for each heartbeat's answer repeats what still stands.
Absence never stops a run: only what is named here is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.application.ports import Reading, Store
from scheduler_svc.application.settings import Settings
from scheduler_svc.domain.job import Attempt, Job, JobId, TrainerId
from scheduler_svc.domain.run import AssignedRun, RunKey, StopMode, StopOrder
from scheduler_svc.domain.states import JobState


@dataclass(frozen=True, slots=True)
class Delivery:
    """An assignment, and the trainer and start of its service that it is for."""

    trainer_id: TrainerId
    address: str
    incarnation: str
    assignment: AssignedRun


@dataclass(frozen=True, slots=True)
class StopDelivery:
    """A stop order, and the trainer and start of its service that it is for."""

    trainer_id: TrainerId
    address: str
    incarnation: str
    order: StopOrder


class Orders:
    """Reads what stands."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    def stop_of(self, job_id: JobId) -> StopDelivery | None:
        """The order that a cancel, a pause or a timeout of this job stands for now, if any.

        Pushing it to the trainer is an optimisation: the next heartbeat repeats it.
        """
        with self._store.read() as tx:
            job = tx.job(job_id)
            order = stop_order(job, self._settings) if job else None
            if job is None or job.current is None or order is None:
                return None
            trainer = tx.trainer(job.current.trainer_id)
        if trainer is None:
            return None
        return StopDelivery(trainer.trainer_id, trainer.address, job.current.incarnation, order)


def stop_order(job: Job, settings: Settings) -> StopOrder | None:
    """What the job's current attempt is to be told, if anything."""
    current = job.current
    if current is None or current.end_time is not None:
        return None
    key = RunKey(job.job_id, current.attempt)
    match job.state:
        case JobState.CANCELLING:
            return StopOrder(key, StopMode.CANCEL, settings.cancel_grace_seconds)
        case JobState.PAUSING:
            return StopOrder(key, StopMode.PAUSE, settings.pause_grace_seconds)
        case JobState.STARTING | JobState.RUNNING if current.timed_out:
            return StopOrder(key, StopMode.TIMEOUT, settings.pause_grace_seconds)
        case _:
            return None


def assigned_run(job: Job, attempt: Attempt) -> AssignedRun:
    """What the trainer needs to start an attempt."""
    return AssignedRun(
        RunKey(job.job_id, attempt.attempt),
        job.spec,
        attempt.gpu_ids,
        # The first attempt has nothing to go on from.
        resume=attempt.attempt > 1,
    )


def current_jobs(tx: Reading, trainer_id: TrainerId) -> list[Job]:
    """Jobs whose current attempt is on this trainer and has not ended, by id."""
    slots = tx.held_slots(trainer_id)
    jobs = tx.jobs(sorted({slot.job_id for slot in slots}))
    return [
        job
        for _, job in sorted(jobs.items())
        if job.current is not None
        and job.current.trainer_id == trainer_id
        and job.current.end_time is None
    ]
