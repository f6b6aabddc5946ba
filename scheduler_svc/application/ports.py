"""What the use cases need of the outside: a store, a clock, new names.

Protocols only. Every store (SQL, memory) passes the one suite in
tests/contract/store. A transaction is all or nothing: it commits when its block
ends, and is rolled back on any exception. No network call is made inside one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from scheduler_svc.domain.fleet import HeldSlot, Trainer
from scheduler_svc.domain.job import Attempt, Job, JobId, Progress, TrainerId
from scheduler_svc.domain.policy import QueuedJob
from scheduler_svc.domain.query import JobQuery
from scheduler_svc.domain.recipe import RecipeId, RecipeRef, StoredRecipe
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.run import RunKey
from scheduler_svc.domain.states import JobState


class Clock(Protocol):
    """Two clocks: one for records, one for leases."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""


class Ids(Protocol):
    """New names."""

    def new_job_id(self) -> str:
        """[a-z][a-z0-9-]{0,62}, never the same twice."""

    def new_uuid(self) -> str:
        """For the database."""


class Raced(Exception):
    """Somebody else moved the job in between; the use case starts over in a new transaction."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The identity of the database, and who leads."""

    database_uuid: str
    generation: int


@dataclass(frozen=True, slots=True)
class Guard:
    """What must still be true of a job for a move to happen."""

    state: JobState
    attempt: int
    incarnation: str | None = None
    """Of the current attempt; None: whichever."""


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request_id that was used."""

    request_id: str
    fingerprint: str
    job_id: JobId


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One event: its position in commit order, and a serialised tunewright.v1.Entry."""

    position: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class MonitorRecord:
    """A monitor that reads the feed."""

    reader: str
    address: str
    epoch: int
    position: int
    """Stored there for good up to here."""
    heard_time: datetime


@dataclass(frozen=True, slots=True)
class TimedRun:
    """A running attempt that may not run for ever."""

    key: RunKey
    start_time: datetime
    run_timeout_seconds: float


class Reading(Protocol):
    """What can be read in one transaction."""

    def installation(self) -> Installation | None:
        """None before the first lead."""

    def job(self, job_id: JobId) -> Job | None:
        """With all its attempts; marked for deletion or not."""

    def jobs(self, job_ids: Collection[JobId]) -> Mapping[JobId, Job]:
        """Those that exist."""

    def list_jobs(self, query: JobQuery) -> Sequence[Job]:
        """At most query.page_size jobs, in the query's order."""

    def count_queue(self, at_most: int) -> int:
        """Jobs that are HELD or QUEUED; stops counting at `at_most`."""

    def queue_shapes(self) -> Sequence[Requirement]:
        """Each requirement that a QUEUED job has, once; costs one index probe each."""

    def queue_heads(self, requirement: Requirement, limit: int) -> Sequence[QueuedJob]:
        """The first QUEUED jobs of that requirement: by priority, then age."""

    def due_recoveries(self, now: datetime, limit: int) -> Sequence[JobId]:
        """RECOVERING jobs whose not_before has come, the longest due first."""

    def timed_runs(self) -> Sequence[TimedRun]:
        """RUNNING attempts with a run_timeout that are not being stopped for it."""

    def held_slots(self, trainer_id: TrainerId | None = None) -> Sequence[HeldSlot]:
        """What attempts hold, on one trainer or on all."""

    def trainer(self, trainer_id: TrainerId) -> Trainer | None:
        """One trainer."""

    def trainers(self) -> Sequence[Trainer]:
        """All, by id."""

    def request(self, request_id: str) -> StoredRequest | None:
        """The request that came with this id."""

    def output_dir_owner(self, output_dir: str) -> tuple[str, JobId] | None:
        """A reserved folder that is this one, above it or below it, and whose it is."""

    def recipe(self, ref: RecipeRef) -> StoredRecipe | None:
        """That version of it, or its latest; None if there is none, or it was deleted."""

    def recipes(self, after: str, limit: int) -> Sequence[StoredRecipe]:
        """The latest version of each with an id greater than `after`, by id."""

    def progress(self, job_ids: Collection[JobId]) -> Mapping[JobId, Progress]:
        """Stored progress of those that have some."""

    def entries_after(self, position: int, limit: int) -> Sequence[StoredEntry]:
        """Events in commit order. Asking again from the last position misses nothing."""

    def last_position_of(self, job_id: JobId) -> int:
        """Position of the job's last event; 0 if it has none."""

    def monitors(self) -> Sequence[MonitorRecord]:
        """The latest heard of first."""

    def deleted_before(self, time: datetime, limit: int) -> Sequence[JobId]:
        """Jobs whose delete_time is not after `time`."""


class Writing(Reading, Protocol):
    """What can be changed in one transaction."""

    def take_lead(
        self, new_uuid: str, generation_min: int = 1, position_min: int = 0
    ) -> Installation:
        """Makes a new generation (and, in an empty database, its identity).

        It is `generation_min` at least, and the feed goes on above `position_min`.
        """

    def require_lead(self, generation: int) -> None:
        """Raises NotLeader unless this generation leads, and holds it until the commit."""

    def insert_job(self, job: Job) -> None:
        """Raises JobIdTaken."""

    def move_job(self, guard: Guard, job: Job) -> bool:
        """The guarded move: writes state, attempt, failure, output and times of `job` if the
        stored row still is as the guard says; False if it is not, and nothing was written.

        The attempts of `job` are written with put_attempt.
        """

    def edit_job(self, job: Job) -> None:
        """Writes display_name, labels, priority, update_time and delete_time."""

    def put_attempt(self, job_id: JobId, attempt: Attempt) -> None:
        """Inserts or replaces one attempt."""

    def release_slot(self, key: RunKey) -> bool:
        """The attempt holds nothing any more; False if it held nothing."""

    def insert_request(self, request: StoredRequest) -> None:
        """Raises Raced if the id was used meanwhile."""

    def reserve_output_dir(self, output_dir: str, job_id: JobId) -> None:
        """Raises OutputDirTaken if it is reserved, or overlaps with one that is."""

    def release_output_dir(self, job_id: JobId) -> None:
        """What the job had reserved is free again."""

    def insert_recipe(self, recipe_id: RecipeId, yaml: str, now: datetime) -> StoredRecipe:
        """Version 1, or the one after the last where the name was used before.

        Raises RecipeExists.
        """

    def update_recipe(self, latest: RecipeRef, yaml: str, now: datetime) -> StoredRecipe | None:
        """The version after `latest`; None if that is not the latest, and nothing was written."""

    def delete_recipe(self, recipe_id: RecipeId) -> bool:
        """Removes all its versions, and remembers only how far they went; False if it is none."""

    def put_trainer(self, trainer: Trainer) -> None:
        """Inserts or replaces a trainer."""

    def put_progress(self, progress: Mapping[JobId, Progress]) -> None:
        """Inserts or replaces progress, of jobs that exist."""

    def append_entry(self, job_id: JobId, payload: bytes) -> None:
        """Adds an event; its position is given at the commit, in commit order."""

    def put_monitor(self, monitor: MonitorRecord) -> None:
        """Inserts or replaces what is known of a monitor."""

    def remove_job(self, job_id: JobId) -> None:
        """Removes the job and everything that is only its own, events too."""


class Store(Protocol):
    """Where records are. Safe to use from several threads at once."""

    def read(self) -> AbstractContextManager[Reading]:
        """A transaction that only reads."""

    def write(self) -> AbstractContextManager[Writing]:
        """A transaction that may write. Raises DatabaseBusy, DatabaseUnavailable, StorageFull."""
