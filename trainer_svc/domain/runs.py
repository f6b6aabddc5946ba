"""A run: one attempt of a job on this host, and what its folder says of it.

Pure: no clock, no files, no processes. The values of the enums are the names
on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tunewright.wire.names import job_id as id_of_job
from tunewright.wire.names import job_name


@dataclass(frozen=True, order=True)
class RunKey:
    """Names one run: the job's id (not its resource name) and the attempt, 1 or more."""

    job_id: str
    attempt: int

    @property
    def job(self) -> str:
        """`jobs/{job_id}`."""
        return job_name(self.job_id)

    @classmethod
    def of(cls, job: str, attempt: int) -> RunKey:
        """The key of (`jobs/{id}`, attempt); ValueError if one of them is none."""
        if attempt < 1:
            raise ValueError(f"attempt must be 1 or more, got {attempt}")
        return cls(id_of_job(job), attempt)

    def __str__(self) -> str:
        return f"{self.job_id}/{self.attempt}"


class RunPhase(StrEnum):
    """How a run goes."""

    PREPARING = "RUN_PHASE_PREPARING"
    """Folder made, child not yet running. A crash of the service here: the shim is
    taken back if it lives, else the run waits for its assignment to be repeated."""
    RUNNING = "RUN_PHASE_RUNNING"
    """The shim has said that the child runs. A crash of the service changes nothing."""
    ENDED = "RUN_PHASE_ENDED"
    """Its processes are gone, and end.json says how it ended."""
    PUBLISHED = "RUN_PHASE_PUBLISHED"
    """Its result is at its final place, and published.json says where."""


class RunOutcome(StrEnum):
    """How a run ended."""

    COMPLETED = "RUN_OUTCOME_COMPLETED"
    FAILED = "RUN_OUTCOME_FAILED"
    STOPPED = "RUN_OUTCOME_STOPPED"


class StopMode(StrEnum):
    """Why a run is to stop. The values are what stop.json holds."""

    PAUSE = "PAUSE"
    CANCEL = "CANCEL"
    FENCE = "FENCE"
    TIMEOUT = "TIMEOUT"

    @property
    def rank(self) -> int:
        """A stop of a higher rank overrides one of a lower."""
        return _RANKS[self]


_RANKS = {StopMode.PAUSE: 0, StopMode.TIMEOUT: 1, StopMode.CANCEL: 2, StopMode.FENCE: 3}


class Cause(StrEnum):
    """Why a run failed: FailureCause, by name."""

    DATASET_INVALID = "FAILURE_CAUSE_DATASET_INVALID"
    MODEL_INVALID = "FAILURE_CAUSE_MODEL_INVALID"
    CONFIG_INVALID = "FAILURE_CAUSE_CONFIG_INVALID"
    ENVIRONMENT_INVALID = "FAILURE_CAUSE_ENVIRONMENT_INVALID"
    GPU_OUT_OF_MEMORY = "FAILURE_CAUSE_GPU_OUT_OF_MEMORY"
    HOST_OUT_OF_MEMORY = "FAILURE_CAUSE_HOST_OUT_OF_MEMORY"
    DISK_FULL = "FAILURE_CAUSE_DISK_FULL"
    GPU_FAULT = "FAILURE_CAUSE_GPU_FAULT"
    DISTRIBUTED = "FAILURE_CAUSE_DISTRIBUTED"
    DIVERGED = "FAILURE_CAUSE_DIVERGED"
    HUNG = "FAILURE_CAUSE_HUNG"
    RUN_TIMEOUT = "FAILURE_CAUSE_RUN_TIMEOUT"
    CRASHED = "FAILURE_CAUSE_CRASHED"
    LOST = "FAILURE_CAUSE_LOST"
    CHECKPOINT_INVALID = "FAILURE_CAUSE_CHECKPOINT_INVALID"
    OUTPUT_INVALID = "FAILURE_CAUSE_OUTPUT_INVALID"
    INTERNAL = "FAILURE_CAUSE_INTERNAL"
    NOTHING_TO_TRAIN = "FAILURE_CAUSE_NOTHING_TO_TRAIN"
    NETWORK = "FAILURE_CAUSE_NETWORK"


@dataclass(frozen=True)
class Failure:
    """Why a run failed. `exit_code` is negative for a signal, None if unknown."""

    cause: Cause
    message: str
    hint: str = ""
    exception_type: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class Ending:
    """How a run ended; `failure` is set exactly when it FAILED."""

    outcome: RunOutcome
    failure: Failure | None = None

    @classmethod
    def failed(cls, failure: Failure) -> Ending:
        """A failed end."""
        return cls(RunOutcome.FAILED, failure)


@dataclass(frozen=True)
class FolderFacts:
    """Which of the files that mark a run's progress are in its folder."""

    child_started: bool = False
    ended: bool = False
    published: bool = False


def phase_of(facts: FolderFacts) -> RunPhase:
    """The phase that the folder's files add up to."""
    if facts.published:
        return RunPhase.PUBLISHED
    if facts.ended:
        return RunPhase.ENDED
    return RunPhase.RUNNING if facts.child_started else RunPhase.PREPARING
