"""The record of a job and of its attempts.

Pure and frozen: a change makes a new record, and storage decides by a guarded
update whether it holds. All times are aware datetimes in UTC, for display and
for order between jobs; no lease depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

from scheduler_svc.domain.failure import Failure
from scheduler_svc.domain.states import TERMINAL, JobState
from svckit.spec import JobSpec

JobId = NewType("JobId", str)
"""Last part of "jobs/{job}"."""

TrainerId = NewType("TrainerId", str)
"""Last part of "trainers/{trainer}"."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The latest that is known of a running attempt; see job.proto."""

    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    phase: str = ""
    update_time: datetime | None = None
    checkpoint_step: int | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Hub commits that the job uses, by source."""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """Where the result is."""

    path: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class FinalCursor:
    """How far one stream of a source goes; see FeedCursor in feed.proto."""

    source: str
    stream: str
    position: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job, on one trainer."""

    attempt: int
    trainer_id: TrainerId
    incarnation: str
    """The trainer service's start that reports for it; a restart binds a new one."""
    gpu_ids: tuple[str, ...]
    """Empty for a CPU slot."""
    assign_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    failure: Failure | None = None
    timed_out: bool = False
    """run_timeout has passed: it is being stopped."""
    slot_held: bool = True
    """Its GPUs or CPU slot are taken. Outlives end_time on a lost host, until it returns."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is stored."""

    job_id: JobId
    spec: JobSpec
    state: JobState
    create_time: datetime
    update_time: datetime
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    attempt: int = 0
    """The latest; 0 before the first."""
    attempts: tuple[Attempt, ...] = ()
    """Oldest first."""
    failure: Failure | None = None
    output: JobOutput | None = None
    retry_of: JobId | None = None
    recipe: str = ""
    """ "recipes/{recipe}@{version}" that the spec was resolved from; empty: from none."""
    queue_time: datetime | None = None
    """When it last came into the queue."""
    not_before: datetime | None = None
    """While RECOVERING: when it goes back into the queue."""
    start_time: datetime | None = None
    end_time: datetime | None = None
    delete_time: datetime | None = None

    @property
    def current(self) -> Attempt | None:
        """The latest attempt, whether it has ended or not."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_terminal(self) -> bool:
        """Nothing moves it any more."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Plan:
    """What CreateJob would do."""

    trainer_ids: tuple[TrainerId, ...]
    """Trainers that fit once they are free."""
    argv: tuple[str, ...] = ()
    """The command that the training child would run; empty where it runs none."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as people see it: the record, and what is derived when it is read."""

    job: Job
    pending_reason: str = ""
    progress: Progress | None = None
    plan: Plan | None = None
