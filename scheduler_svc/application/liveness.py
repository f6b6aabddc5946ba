"""Who was heard of when, and what was sampled last: the leader's memory.

Leases are here and nowhere else; a scheduler that starts grants new ones.
Monotonic times in seconds, given by the caller. Safe to call from several threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock

from scheduler_svc.application.settings import Settings
from scheduler_svc.domain import leases
from scheduler_svc.domain.fleet import Gpu, Trainer, TrainerState
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.domain.leases import Lease, LeaseTimes
from scheduler_svc.domain.run import Heartbeat


@dataclass(frozen=True, slots=True)
class Sample:
    """The latest that a trainer told of its host."""

    time: datetime
    gpus: tuple[Gpu, ...]
    disk_bytes_free: int


class Liveness:
    """Leases and samples of all trainers that are not LOST."""

    def __init__(self, settings: Settings) -> None:
        self._times = LeaseTimes(settings.suspect_after_seconds, settings.lost_after_seconds)
        self._lock = Lock()
        self._leases: dict[TrainerId, Lease] = {}
        self._sequences: dict[TrainerId, tuple[str, int]] = {}
        self._samples: dict[TrainerId, Sample] = {}
        self._dirty: set[TrainerId] = set()
        self._looked_at: float | None = None

    def restart(self, trainer_ids: Iterable[TrainerId], now: float) -> None:
        """Grants each of these a whole LOST window; forgets everything else."""
        with self._lock:
            self._leases = {one: Lease(now, heard=False) for one in trainer_ids}
            self._looked_at = now

    def heard(self, trainer_id: TrainerId, now: float) -> None:
        """A registration or heartbeat came in."""
        with self._lock:
            self._leases[trainer_id] = Lease(now, heard=True)

    def is_late(self, beat: Heartbeat) -> bool:
        """Whether a newer heartbeat of the same start was taken already. Takes this one if not."""
        reporter = beat.reporter
        with self._lock:
            incarnation, sequence = self._sequences.get(reporter.trainer_id, ("", 0))
            if incarnation == reporter.incarnation and beat.sequence <= sequence:
                return True
            self._sequences[reporter.trainer_id] = (reporter.incarnation, beat.sequence)
            return False

    def sampled(self, trainer_id: TrainerId, sample: Sample) -> None:
        """What the host looks like now."""
        with self._lock:
            self._samples[trainer_id] = sample
            self._dirty.add(trainer_id)

    def drop(self, trainer_id: TrainerId) -> None:
        """It was given up: no lease until it is heard again."""
        with self._lock:
            self._leases.pop(trainer_id, None)

    def states(self, trainers: Iterable[Trainer], now: float) -> dict[TrainerId, TrainerState]:
        """How well each of these is heard."""
        with self._lock:
            held = dict(self._leases)
        found = {}
        for trainer in trainers:
            lease = held.get(trainer.trainer_id)
            if trainer.lost_time is not None:
                found[trainer.trainer_id] = TrainerState.LOST
            elif lease is None:
                found[trainer.trainer_id] = TrainerState.SUSPECT
            else:
                found[trainer.trainer_id] = leases.state_of(lease, now, self._times)
        return found

    def latest(self, trainer: Trainer) -> Trainer:
        """The trainer with what was sampled since it was stored."""
        with self._lock:
            sample = self._samples.get(trainer.trainer_id)
        if sample is None:
            return trainer
        return replace(
            trainer,
            gpus=sample.gpus,
            disk_bytes_free=sample.disk_bytes_free,
            heartbeat_time=sample.time,
        )

    def take_dirty(self) -> frozenset[TrainerId]:
        """Trainers sampled since the last call."""
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        return frozenset(dirty)

    def expired(self, now: float) -> tuple[list[TrainerId], bool]:
        """Trainers to give up, and whether a mass silence keeps all of them.

        A process that was itself stopped for a while heard nobody: it grants new
        leases instead of giving up hosts that could not reach it.
        """
        with self._lock:
            slept = self._looked_at is not None and (
                now - self._looked_at >= self._times.suspect_after_seconds
            )
            self._looked_at = now
            if slept:
                self._leases = {one: Lease(now, heard=False) for one in self._leases}
                return [], False
            held: Mapping[TrainerId, Lease] = dict(self._leases)
        if leases.mass_silence(held.values(), now, self._times):
            return [], True
        found = [one for one, lease in held.items() if leases.expired(lease, now, self._times)]
        return sorted(found), False

    def is_expired(self, trainer_id: TrainerId, now: float) -> bool:
        """Whether it is still silent."""
        with self._lock:
            lease = self._leases.get(trainer_id)
        return lease is not None and leases.expired(lease, now, self._times)
