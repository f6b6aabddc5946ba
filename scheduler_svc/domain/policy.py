"""Who gets what: waiting jobs and free slots in, placements out.

Pure. Priority first, then age. What does not fit blocks nobody; a job that has
waited too long for a trainer it would fit, were it empty, keeps that trainer
free from later jobs, so that a stream of small ones does not starve it.
Packs tightly: the trainer with the least left over wins, so that big holes stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from scheduler_svc.domain.fleet import Fleet, Gpu, HeldSlot, Host
from scheduler_svc.domain.job import JobId, TrainerId
from scheduler_svc.domain.requirement import Requirement


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What policy needs to know of a job that waits."""

    job_id: JobId
    priority: int
    create_time: datetime
    """Its age counts from here, however often it was tried or paused."""
    queue_time: datetime
    """When it last came into the queue."""
    attempt: int
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class Placement:
    """A job goes to a trainer; gpu_ids is empty for a CPU slot."""

    job_id: JobId
    attempt: int
    """The job's latest attempt when this was decided."""
    trainer_id: TrainerId
    gpu_ids: tuple[str, ...]


def queue_order(job: QueuedJob) -> tuple[int, datetime, JobId]:
    """Sorts a queue: the higher priority first, then the older."""
    return (-job.priority, job.create_time, job.job_id)


def assign(
    queue: Iterable[QueuedJob], fleet: Fleet, now: datetime, reservation_after_seconds: float
) -> list[Placement]:
    """Places what fits, in the queue's order."""
    hosts = dict(fleet)
    kept_free: set[tuple[TrainerId, bool]] = set()
    blocked: set[str] = set()
    placements: list[Placement] = []
    for job in sorted(queue, key=queue_order):
        need = job.requirement
        if need.key in blocked:
            continue  # what is free only shrinks: jobs like one that did not fit do not either
        open_hosts = [
            host for host in hosts.values() if (host.trainer_id, need.on_cpu) not in kept_free
        ]
        placement = _best_fit(job, open_hosts)
        if placement is not None:
            placements.append(placement)
            hosts[placement.trainer_id] = hosts[placement.trainer_id].with_slot(_slot(placement))
            continue
        blocked.add(need.key)
        # The first of each kind speaks for all: more reservations would idle the whole fleet.
        if (now - job.queue_time).total_seconds() >= reservation_after_seconds:
            kept_free |= _to_keep_free(need, open_hosts)
    return placements


def heads_needed(requirement: Requirement, fleet: Fleet) -> int:
    """How many jobs of one requirement a round can look at with use: those that may
    be placed, and one more that may reserve a trainer; 0 if no trainer will ever do."""
    if not any(fits_when_empty(requirement, host) for host in fleet.values()):
        return 0
    return 1 + sum(_room(requirement, host) for host in fleet.values())


def fits_when_empty(requirement: Requirement, host: Host) -> bool:
    """Whether the job could run there now if no job held anything."""
    return host.takes_work and could_ever_run(requirement, host)


def could_ever_run(requirement: Requirement, host: Host) -> bool:
    """The same, cordoned or silent hosts included."""
    if not _is_eligible(requirement, host):
        return False
    if requirement.on_cpu:
        return host.trainer.capabilities.cpu_slots > 0
    return _choose(requirement, host.usable_gpus(requirement.gpu_memory_bytes_min)) is not None


def fits_now(requirement: Requirement, host: Host) -> bool:
    """Whether the job could start there now."""
    return _gpus_for(requirement, host) is not None


def _is_eligible(requirement: Requirement, host: Host) -> bool:
    named = requirement.trainer_id
    return (named is None or named == host.trainer_id) and (
        requirement.backend in host.trainer.capabilities.backends
    )


def _gpus_for(requirement: Requirement, host: Host) -> tuple[Gpu, ...] | None:
    """What the job would get there: () for a CPU slot, None if it does not fit."""
    if not host.takes_work or not _is_eligible(requirement, host):
        return None
    if requirement.on_cpu:
        return () if host.cpu_slots_free > 0 else None
    return _choose(requirement, host.free_gpus(requirement.gpu_memory_bytes_min))


def _choose(requirement: Requirement, gpus: Sequence[Gpu]) -> tuple[Gpu, ...] | None:
    if requirement.gpu_ids:
        chosen = [gpu for gpu in gpus if gpu.gpu_id in requirement.gpu_ids]
        return tuple(chosen) if len(chosen) == len(requirement.gpu_ids) else None
    if len(gpus) < requirement.gpu_count:
        return None
    # The smallest that do: the big ones stay for those who need them.
    by_size = sorted(gpus, key=lambda gpu: gpu.memory_bytes_total)
    chosen_ids = {gpu.gpu_id for gpu in by_size[: requirement.gpu_count]}
    return tuple(gpu for gpu in gpus if gpu.gpu_id in chosen_ids)


def _best_fit(job: QueuedJob, hosts: Iterable[Host]) -> Placement | None:
    best: tuple[tuple[int, int, TrainerId], Placement] | None = None
    for host in hosts:
        gpus = _gpus_for(job.requirement, host)
        if gpus is None:
            continue
        memory = sum(gpu.memory_bytes_total for gpu in gpus)
        rank = (_left_over(job.requirement, host), memory, host.trainer_id)
        ids = tuple(gpu.gpu_id for gpu in gpus)
        if best is None or rank < best[0]:
            best = (rank, Placement(job.job_id, job.attempt, host.trainer_id, ids))
    return best[1] if best else None


def _left_over(requirement: Requirement, host: Host) -> int:
    if requirement.on_cpu:
        return host.cpu_slots_free - 1
    return len(host.free_gpus()) - requirement.gpu_count


def _room(requirement: Requirement, host: Host) -> int:
    if _gpus_for(requirement, host) is None:
        return 0
    if requirement.on_cpu:
        return host.cpu_slots_free
    if requirement.gpu_ids:
        return 1
    return len(host.free_gpus(requirement.gpu_memory_bytes_min)) // requirement.gpu_count


def _to_keep_free(requirement: Requirement, hosts: Iterable[Host]) -> set[tuple[TrainerId, bool]]:
    """The trainer that will be empty enough first, by what is free of it already; at most one."""
    found = [
        (-_free_share(requirement, host), host.trainer_id)
        for host in hosts
        if fits_when_empty(requirement, host)
    ]
    return {(min(found)[1], requirement.on_cpu)} if found else set()


def _free_share(requirement: Requirement, host: Host) -> int:
    if requirement.on_cpu:
        return host.cpu_slots_free
    free = host.free_gpus(requirement.gpu_memory_bytes_min)
    if requirement.gpu_ids:
        return sum(1 for gpu in free if gpu.gpu_id in requirement.gpu_ids)
    return len(free)


def _slot(placement: Placement) -> HeldSlot:
    return HeldSlot(
        placement.job_id, placement.attempt + 1, placement.trainer_id, placement.gpu_ids
    )
