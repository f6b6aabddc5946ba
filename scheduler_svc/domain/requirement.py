"""What of a job decides where it can run.

Pure. Jobs with the same requirement are interchangeable for fitting, so that a
queue of 100,000 is looked at by requirement, not by job. `key` is its one
spelling in an index, `parse` reads it back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from scheduler_svc.domain.job import TrainerId
from svckit.spec import Accelerator, Backend, JobSpec


@dataclass(frozen=True)
class Requirement:
    """What a trainer must have. gpu_count 0 means one CPU slot."""

    backend: Backend
    gpu_count: int
    gpu_memory_bytes_min: int = 0
    trainer_id: TrainerId | None = None
    """Only there."""
    gpu_ids: tuple[str, ...] = ()
    """Exactly these, sorted."""

    @property
    def on_cpu(self) -> bool:
        """It takes a CPU slot and no GPU."""
        return self.gpu_count == 0

    @cached_property
    def key(self) -> str:
        """Equal for equal requirements."""
        parts = (
            self.backend.value,
            self.gpu_count,
            self.gpu_memory_bytes_min,
            self.trainer_id or "",
            *self.gpu_ids,
        )
        return json.dumps(parts, separators=(",", ":"))

    @classmethod
    def parse(cls, key: str) -> Requirement:
        """The requirement whose key this is."""
        backend, count, memory, trainer, *gpu_ids = json.loads(key)
        trainer_id = TrainerId(trainer) if trainer else None
        return cls(Backend(backend), count, memory, trainer_id, tuple(gpu_ids))

    @classmethod
    def of(cls, spec: JobSpec) -> Requirement:
        """The requirement of a spec."""
        resources = spec.resources
        trainer_id = TrainerId(resources.trainer.removeprefix("trainers/")) or None
        if resources.accelerator is Accelerator.CPU:
            return cls(spec.backend, 0, 0, trainer_id)
        gpu_ids = tuple(sorted(resources.gpu_ids))
        count = resources.gpu_count or len(gpu_ids) or 1
        return cls(spec.backend, count, resources.gpu_memory_bytes_min, trainer_id, gpu_ids)
