"""Which slots are taken, and whether a run still fits.

Pure. A run holds its slot until its whole process tree is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer_svc.domain.refusals import TrainerFull
from trainer_svc.domain.runs import RunKey


@dataclass(frozen=True)
class Holding:
    """What one living run holds: GPUs by index, or, without any, one CPU slot."""

    key: RunKey
    gpu_ids: Sequence[str]


@dataclass(frozen=True)
class Capacity:
    """What the host has: CPU slots, and for each GPU index the foreign processes on it."""

    cpu_slots: int
    foreign_pids: Mapping[str, Sequence[int]]


def check_fits(gpu_ids: Sequence[str], held: Iterable[Holding], capacity: Capacity) -> None:
    """Raises TrainerFull, saying why, unless a run with these GPUs (none: CPU) fits now."""
    holdings = list(held)
    if not gpu_ids:
        _check_cpu(holdings, capacity)
        return
    owners = {gpu_id: one.key for one in holdings for gpu_id in one.gpu_ids}
    for gpu_id in gpu_ids:
        if gpu_id not in capacity.foreign_pids:
            raise TrainerFull(f"there is no GPU {gpu_id} here")
        if gpu_id in owners:
            raise TrainerFull(f"GPU {gpu_id} is held by {owners[gpu_id].job}")
        foreign = capacity.foreign_pids[gpu_id]
        if foreign:
            pids = ", ".join(str(pid) for pid in foreign)
            raise TrainerFull(f"GPU {gpu_id} is used by processes that are not ours: {pids}")


def _check_cpu(holdings: Sequence[Holding], capacity: Capacity) -> None:
    used = sum(1 for one in holdings if not one.gpu_ids)
    if used >= capacity.cpu_slots:
        raise TrainerFull(f"all {capacity.cpu_slots} CPU slots are taken")
