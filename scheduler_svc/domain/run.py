"""What trainers report of runs, and what they are ordered to do.

Pure records; the vocabulary of registry_service.proto. A run is one attempt of
one job as a trainer holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from scheduler_svc.domain.failure import Failure
from scheduler_svc.domain.fleet import Capabilities, Gpu
from scheduler_svc.domain.job import FinalCursor, JobId, JobOutput, Progress, TrainerId
from svckit.spec import JobSpec


class RunPhase(StrEnum):
    """How a run goes. Values are the names of the proto enum."""

    PREPARING = "RUN_PHASE_PREPARING"
    RUNNING = "RUN_PHASE_RUNNING"
    ENDED = "RUN_PHASE_ENDED"
    PUBLISHED = "RUN_PHASE_PUBLISHED"


class RunOutcome(StrEnum):
    """How a run ended. Values are the names of the proto enum."""

    UNSPECIFIED = "RUN_OUTCOME_UNSPECIFIED"
    COMPLETED = "RUN_OUTCOME_COMPLETED"
    FAILED = "RUN_OUTCOME_FAILED"
    STOPPED = "RUN_OUTCOME_STOPPED"


class StopMode(StrEnum):
    """Why a run is to stop. Values are the names of the proto enum."""

    PAUSE = "STOP_MODE_PAUSE"
    CANCEL = "STOP_MODE_CANCEL"
    FENCE = "STOP_MODE_FENCE"
    TIMEOUT = "STOP_MODE_TIMEOUT"


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """Names one run."""

    job_id: JobId
    attempt: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run as its trainer holds it; see RunStatus in registry_service.proto."""

    key: RunKey
    phase: RunPhase
    outcome: RunOutcome = RunOutcome.UNSPECIFIED
    failure: Failure | None = None
    output: JobOutput | None = None
    progress: Progress | None = None
    final_cursors: tuple[FinalCursor, ...] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def is_over(self) -> bool:
        """None of its processes exists any more."""
        return self.phase in (RunPhase.ENDED, RunPhase.PUBLISHED)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: a trainer, and which start of its service."""

    trainer_id: TrainerId
    incarnation: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A trainer makes itself known; see RegisterTrainerRequest."""

    reporter: Reporter
    address: str
    boot_id: str
    workspace_uuid: str
    capabilities: Capabilities
    gpus: tuple[Gpu, ...] = ()
    runs: tuple[RunReport, ...] = ()
    database_uuid: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A trainer says what is there; see HeartbeatRequest."""

    reporter: Reporter
    sequence: int
    gpus: tuple[Gpu, ...] = ()
    runs: tuple[RunReport, ...] = ()
    disk_bytes_free: int = 0


@dataclass(frozen=True, slots=True)
class AssignedRun:
    """A run that a trainer is to start; see Assignment."""

    key: RunKey
    spec: JobSpec
    gpu_ids: tuple[str, ...]
    resume: bool


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A run that a trainer is to stop. grace_seconds None means the trainer's own."""

    key: RunKey
    mode: StopMode
    grace_seconds: float | None = None
