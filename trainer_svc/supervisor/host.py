"""The host: its GPUs as they are told to others, its slots, its memory and disks."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil
from tunewright.v1 import feed_pb2, trainer_pb2

from trainer_svc.domain.command import run_marker
from trainer_svc.domain.slots import Capacity
from trainer_svc.supervisor.gpus import GpuInventory, GpuReading, capacity_of, foreign_pids
from trainer_svc.supervisor.processes import stat_of
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.trees import TreeSigns, find_tree


class Host:
    """What this machine has, sampled when it is asked."""

    def __init__(self, gpus: GpuInventory, cpu_slots: int | None, source: str) -> None:
        self.gpus = gpus
        self._cpu_slots = cpu_slots
        self._source = source
        # The first call only sets the mark that later ones measure from.
        psutil.cpu_percent(interval=None)

    async def capacity(self, runs: Sequence[Run]) -> Capacity:
        """What there is for runs now, foreign processes included."""
        return await asyncio.to_thread(self._capacity, runs)

    async def gpu_messages(self, runs: Sequence[Run]) -> Sequence[trainer_pb2.Gpu]:
        """The GPUs, for registration, heartbeat and GetSystemInfo."""
        return await asyncio.to_thread(self._gpu_messages, runs)

    def sample(self, gpu_ids: Sequence[str], workspace: Path) -> feed_pb2.SystemSample:
        """The host now, with these GPUs. Blocking."""
        memory = psutil.virtual_memory()
        return feed_pb2.SystemSample(
            cpu_percent=psutil.cpu_percent(interval=None),
            memory_bytes_used=memory.total - memory.available,
            disk_bytes_free=shutil.disk_usage(workspace).free,
            gpus=[_sample_of(one) for one in self.gpus.read() if one.gpu_id in gpu_ids],
        )

    def _capacity(self, runs: Sequence[Run]) -> Capacity:
        foreign = {one.gpu_id: pids for one, pids in self._readings(runs)}
        return Capacity(capacity_of(foreign, self._cpu_slots), foreign)

    def _gpu_messages(self, runs: Sequence[Run]) -> Sequence[trainer_pb2.Gpu]:
        return [_gpu_of(one, pids) for one, pids in self._readings(runs)]

    def _readings(self, runs: Sequence[Run]) -> Sequence[tuple[GpuReading, Sequence[int]]]:
        readings = self.gpus.read()
        if not any(one.pids for one in readings):
            return [(one, ()) for one in readings]
        living = [run for run in runs if run.holds_slot]
        held = {gpu_id for run in living for gpu_id in run.gpu_ids}
        ours = frozenset(self._pids_of(living))
        return [
            (one, foreign_pids(one, ours, one.gpu_id in held, lambda pid: stat_of(pid) is not None))
            for one in readings
        ]

    def _pids_of(self, runs: Iterable[Run]) -> Iterable[int]:
        for run in runs:
            marker = run_marker(self._source, run.key.job_id, run.key.attempt)
            yield from find_tree(TreeSigns(marker, run.folder.lock_file, run.folder.shim()))


def _gpu_of(reading: GpuReading, foreign: Sequence[int]) -> trainer_pb2.Gpu:
    return trainer_pb2.Gpu(
        gpu_id=reading.gpu_id,
        uuid=reading.uuid,
        product_name=reading.product_name,
        memory_bytes_total=reading.memory_bytes_total,
        memory_bytes_used=reading.memory_bytes_used,
        utilization_percent=reading.utilization_percent,
        temperature_celsius=reading.temperature_celsius,
        power_watts=reading.power_watts,
        foreign_pids=list(foreign),
    )


def _sample_of(reading: GpuReading) -> feed_pb2.GpuSample:
    return feed_pb2.GpuSample(
        gpu_id=reading.gpu_id,
        utilization_percent=reading.utilization_percent,
        memory_bytes_used=reading.memory_bytes_used,
        temperature_celsius=reading.temperature_celsius,
        power_watts=reading.power_watts,
    )
