"""The trainers, and what of them is free.

Pure. Used slots are derived from the attempts that hold them, never counted up
and down. Owns what "free" means; who gets it is policy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from scheduler_svc.domain.job import JobId, TrainerId
from svckit.spec import Backend


class TrainerState(StrEnum):
    """How well a trainer is heard. Values are the names of the proto enum."""

    READY = "TRAINER_STATE_READY"
    SUSPECT = "TRAINER_STATE_SUSPECT"
    LOST = "TRAINER_STATE_LOST"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its trainer sampled it; see trainer.proto."""

    gpu_id: str
    memory_bytes_total: int
    uuid: str = ""
    product_name: str = ""
    memory_bytes_used: int = 0
    utilization_percent: int = 0
    temperature_celsius: int | None = None
    power_watts: float | None = None
    foreign_pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FamilySupport:
    """Whether a backend trains a family of models; see trainer.proto."""

    family: str
    backend: str
    reads_pictures: bool = False
    missing_packages: tuple[str, ...] = ()
    unsupported: str = ""


@dataclass(frozen=True, slots=True)
class FeatureSupport:
    """Whether a backend can use something; see trainer.proto."""

    feature: str
    backend: str
    missing_packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a trainer told of itself when it registered; see trainer.proto."""

    backends: tuple[Backend, ...] = ()
    cpu_slots: int = 0
    version: str = ""
    artifact_store: str = ""
    missing_backends: Mapping[str, str] = field(default_factory=dict)
    backend_versions: Mapping[str, str] = field(default_factory=dict)
    backend_notes: Mapping[str, str] = field(default_factory=dict)
    families: tuple[FamilySupport, ...] = ()
    features: tuple[FeatureSupport, ...] = ()


@dataclass(frozen=True, slots=True)
class Trainer:
    """A trainer as it is stored."""

    trainer_id: TrainerId
    address: str
    incarnation: str
    boot_id: str
    workspace_uuid: str
    capabilities: Capabilities
    create_time: datetime
    gpus: tuple[Gpu, ...] = ()
    cordoned: bool = False
    faulty_gpu_ids: frozenset[str] = frozenset()
    """GPUs that reported a fault of their own; not handed out until an uncordon or a reboot."""
    lost_time: datetime | None = None
    """Set while it is LOST."""
    heartbeat_time: datetime | None = None
    disk_bytes_free: int = 0


@dataclass(frozen=True, slots=True)
class HeldSlot:
    """What an attempt holds on a trainer."""

    job_id: JobId
    attempt: int
    trainer_id: TrainerId
    gpu_ids: tuple[str, ...]
    """Empty for a CPU slot."""


@dataclass(frozen=True, slots=True)
class Host:
    """A trainer, how well it is heard, and who holds what there."""

    trainer: Trainer
    state: TrainerState
    slots: tuple[HeldSlot, ...] = ()

    @property
    def trainer_id(self) -> TrainerId:
        """Its id."""
        return self.trainer.trainer_id

    @property
    def takes_work(self) -> bool:
        """Whether anything new may go there."""
        return self.state is TrainerState.READY and not self.trainer.cordoned

    @property
    def cpu_slots_used(self) -> int:
        """CPU slots that are taken."""
        return sum(1 for slot in self.slots if not slot.gpu_ids)

    @property
    def cpu_slots_free(self) -> int:
        """CPU slots that can be given out."""
        return max(0, self.trainer.capabilities.cpu_slots - self.cpu_slots_used)

    @property
    def gpu_holders(self) -> dict[str, JobId]:
        """Which job holds which GPU."""
        return {gpu_id: slot.job_id for slot in self.slots for gpu_id in slot.gpu_ids}

    def usable_gpus(self, memory_bytes_min: int) -> list[Gpu]:
        """GPUs that would do once no job held them, in the order of their ids."""
        faulty = self.trainer.faulty_gpu_ids
        found = [
            gpu
            for gpu in self.trainer.gpus
            if gpu.memory_bytes_total >= memory_bytes_min
            and not gpu.foreign_pids
            and gpu.gpu_id not in faulty
        ]
        return sorted(found, key=gpu_order)

    def free_gpus(self, memory_bytes_min: int = 0) -> list[Gpu]:
        """GPUs that can be given out now, in the order of their ids."""
        taken = self.gpu_holders
        return [gpu for gpu in self.usable_gpus(memory_bytes_min) if gpu.gpu_id not in taken]

    def with_slot(self, slot: HeldSlot) -> Host:
        """The same host after something was given out."""
        return replace(self, slots=(*self.slots, slot))


def gpu_order(gpu: Gpu) -> tuple[int, str]:
    """Numeric ids by number ("2" before "10"), others by text."""
    return (int(gpu.gpu_id), "") if gpu.gpu_id.isdecimal() else (1 << 31, gpu.gpu_id)


Fleet = Mapping[TrainerId, Host]


def fleet_of(
    trainers: Iterable[Trainer],
    states: Mapping[TrainerId, TrainerState],
    slots: Sequence[HeldSlot],
) -> dict[TrainerId, Host]:
    """All hosts by id, in the order of their ids. One nobody has a state for is SUSPECT."""
    by_trainer: dict[TrainerId, list[HeldSlot]] = {}
    for slot in slots:
        by_trainer.setdefault(slot.trainer_id, []).append(slot)
    return {
        trainer.trainer_id: Host(
            trainer,
            states.get(trainer.trainer_id, TrainerState.SUSPECT),
            tuple(by_trainer.get(trainer.trainer_id, ())),
        )
        for trainer in sorted(trainers, key=lambda trainer: trainer.trainer_id)
    }
