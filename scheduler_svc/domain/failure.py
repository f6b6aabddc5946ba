"""Why attempts fail, and which failures another attempt may mend.

Pure. Refuses to guess: a cause that is not in RETRYABLE ends the job at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FailureCause(StrEnum):
    """The kind of a failure. Values are the names of the proto enum."""

    UNSPECIFIED = "FAILURE_CAUSE_UNSPECIFIED"
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
    QUARANTINED = "FAILURE_CAUSE_QUARANTINED"
    INTERNAL = "FAILURE_CAUSE_INTERNAL"
    NOTHING_TO_TRAIN = "FAILURE_CAUSE_NOTHING_TO_TRAIN"
    NETWORK = "FAILURE_CAUSE_NETWORK"


# A GPU that is too small stays too small, data that is wrong stays wrong: those
# are not here. RUN_TIMEOUT is not here either: it is the limit a person set.
RETRYABLE = frozenset(
    {
        FailureCause.HOST_OUT_OF_MEMORY,
        FailureCause.DISK_FULL,
        FailureCause.GPU_FAULT,
        FailureCause.DISTRIBUTED,
        FailureCause.HUNG,
        FailureCause.CRASHED,
        FailureCause.LOST,
        FailureCause.INTERNAL,
        FailureCause.NETWORK,
    }
)

QUARANTINE_AFTER_ATTEMPTS = 3
"""So many attempts in a row that each took their trainer down end a job."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt or a job failed, for a person."""

    cause: FailureCause
    message: str
    hint: str = ""
    exception_type: str = ""
    exit_code: int | None = None

    @property
    def retryable(self) -> bool:
        """Whether another attempt may end better."""
        return self.cause in RETRYABLE
