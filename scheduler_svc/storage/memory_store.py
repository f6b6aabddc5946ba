"""The store in memory: for tests and simulations, with the transactions of the real ones.

A transaction has the store for itself and is undone whole on any exception.
Refuses what the databases refuse; nothing is written to a disk.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cmp_to_key
from threading import RLock
from typing import TypeVar

from scheduler_svc.application.ports import (
    Guard,
    Installation,
    MonitorRecord,
    Raced,
    StoredEntry,
    StoredRequest,
    TimedRun,
)
from scheduler_svc.domain.errors import (
    JobIdTaken,
    JobNotFound,
    NotLeader,
    OutputDirTaken,
    RecipeExists,
)
from scheduler_svc.domain.fleet import HeldSlot, Trainer
from scheduler_svc.domain.job import Attempt, Job, JobId, Progress, TrainerId
from scheduler_svc.domain.policy import QueuedJob, queue_order
from scheduler_svc.domain.query import JobQuery, matches, position_of, precedes
from scheduler_svc.domain.recipe import RecipeId, RecipeRef, StoredRecipe
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.run import RunKey
from scheduler_svc.domain.states import JobState

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Records:
    """Everything that is stored."""

    installation: dict[int, Installation] = field(default_factory=dict)
    position: dict[int, int] = field(default_factory=dict)
    jobs: dict[JobId, Job] = field(default_factory=dict)
    attempts: dict[RunKey, Attempt] = field(default_factory=dict)
    slots: dict[RunKey, HeldSlot] = field(default_factory=dict)
    queued: dict[JobId, QueuedJob] = field(default_factory=dict)
    output_dirs: dict[str, JobId] = field(default_factory=dict)
    requests: dict[str, StoredRequest] = field(default_factory=dict)
    recipes: dict[RecipeRef, StoredRecipe] = field(default_factory=dict)
    recipe_counts: dict[RecipeId, int] = field(default_factory=dict)
    """The last version that a name has had; stays when the recipe goes."""
    progress: dict[JobId, Progress] = field(default_factory=dict)
    trainers: dict[TrainerId, Trainer] = field(default_factory=dict)
    events: dict[int, tuple[JobId, bytes]] = field(default_factory=dict)
    monitors: dict[str, MonitorRecord] = field(default_factory=dict)


class MemoryStore:
    """Store without a database."""

    def __init__(self) -> None:
        self._records = _Records()
        self._lock = RLock()

    @contextmanager
    def read(self) -> Iterator[MemoryReading]:
        """A transaction that only reads."""
        with self._lock:
            yield MemoryReading(self._records)

    @contextmanager
    def write(self) -> Iterator[MemoryWriting]:
        """A transaction that may write."""
        with self._lock:
            writing = MemoryWriting(self._records)
            try:
                yield writing
                writing.give_positions()
            except BaseException:
                writing.undo()
                raise


class MemoryReading:
    """Reading, over records that nobody else changes meanwhile."""

    def __init__(self, records: _Records) -> None:
        self._records = records

    def installation(self) -> Installation | None:
        return self._records.installation.get(1)

    def job(self, job_id: JobId) -> Job | None:
        job = self._records.jobs.get(job_id)
        if job is None or job.attempt == 0:
            return job
        keys = [RunKey(job_id, number) for number in range(1, job.attempt + 1)]
        attempts = self._records.attempts
        return replace(job, attempts=tuple(attempts[key] for key in keys if key in attempts))

    def jobs(self, job_ids: Collection[JobId]) -> Mapping[JobId, Job]:
        found = {job_id: self.job(job_id) for job_id in sorted(job_ids)}
        return {job_id: job for job_id, job in found.items() if job is not None}

    def list_jobs(self, query: JobQuery) -> Sequence[Job]:
        after = query.after
        found = [
            job
            for job in self.jobs(self._records.jobs).values()
            if (query.show_deleted or job.delete_time is None)
            and matches(query.filter, job)
            and (after is None or precedes(after, position_of(job, query.order), query.order))
        ]

        def compare(left: Job, right: Job) -> int:
            one, other = position_of(left, query.order), position_of(right, query.order)
            return -1 if precedes(one, other, query.order) else 1

        return sorted(found, key=cmp_to_key(compare))[: query.page_size]

    def count_queue(self, at_most: int) -> int:
        waiting = (JobState.HELD, JobState.QUEUED)
        return min(at_most, sum(1 for job in self._records.jobs.values() if job.state in waiting))

    def queue_shapes(self) -> Sequence[Requirement]:
        found = {one.requirement.key: one.requirement for one in self._records.queued.values()}
        return [found[key] for key in sorted(found)]

    def queue_heads(self, requirement: Requirement, limit: int) -> Sequence[QueuedJob]:
        found = [one for one in self._records.queued.values() if one.requirement == requirement]
        return sorted(found, key=queue_order)[:limit]

    def due_recoveries(self, now: datetime, limit: int) -> Sequence[JobId]:
        due = [
            (job.not_before or now, job.job_id)
            for job in self._records.jobs.values()
            if job.state is JobState.RECOVERING
            and ((job.not_before is not None and job.not_before <= now) or job.update_time > now)
        ]
        return [job_id for _, job_id in sorted(due)[:limit]]

    def timed_runs(self) -> Sequence[TimedRun]:
        found = []
        for job_id in sorted(self._records.jobs):
            job = self.job(job_id)
            if job is None or job.state is not JobState.RUNNING or job.current is None:
                continue
            timeout, start = job.spec.run_timeout_seconds, job.current.start_time
            if timeout is not None and start is not None and not job.current.timed_out:
                found.append(TimedRun(RunKey(job_id, job.attempt), start, timeout))
        return found

    def held_slots(self, trainer_id: TrainerId | None = None) -> Sequence[HeldSlot]:
        slots = self._records.slots
        return [
            slots[key]
            for key in sorted(slots)
            if trainer_id is None or slots[key].trainer_id == trainer_id
        ]

    def trainer(self, trainer_id: TrainerId) -> Trainer | None:
        return self._records.trainers.get(trainer_id)

    def trainers(self) -> Sequence[Trainer]:
        return [trainer for _, trainer in sorted(self._records.trainers.items())]

    def request(self, request_id: str) -> StoredRequest | None:
        return self._records.requests.get(request_id)

    def output_dir_owner(self, output_dir: str) -> tuple[str, JobId] | None:
        for taken, job_id in sorted(self._records.output_dirs.items()):
            above = output_dir.startswith(f"{taken}/")
            below = taken.startswith(f"{output_dir}/")
            if taken == output_dir or above or below:
                return taken, job_id
        return None

    def recipe(self, ref: RecipeRef) -> StoredRecipe | None:
        version = ref.version or self._records.recipe_counts.get(ref.recipe_id, 0)
        return self._records.recipes.get(RecipeRef(ref.recipe_id, version))

    def recipes(self, after: str, limit: int) -> Sequence[StoredRecipe]:
        latest = (self.recipe(RecipeRef(one)) for one in sorted(self._records.recipe_counts))
        return [one for one in latest if one is not None and one.recipe_id > after][:limit]

    def progress(self, job_ids: Collection[JobId]) -> Mapping[JobId, Progress]:
        stored = self._records.progress
        return {job_id: stored[job_id] for job_id in sorted(job_ids) if job_id in stored}

    def entries_after(self, position: int, limit: int) -> Sequence[StoredEntry]:
        events = self._records.events
        found = sorted(one for one in events if one > position)[:limit]
        return [StoredEntry(one, events[one][1]) for one in found]

    def last_position_of(self, job_id: JobId) -> int:
        own = [one for one, (owner, _) in self._records.events.items() if owner == job_id]
        return max(own, default=0)

    def monitors(self) -> Sequence[MonitorRecord]:
        by_name = sorted(self._records.monitors.values(), key=lambda one: one.reader)
        return sorted(by_name, key=lambda one: one.heard_time, reverse=True)

    def deleted_before(self, time: datetime, limit: int) -> Sequence[JobId]:
        found = [
            (job.delete_time, job.job_id)
            for job in self._records.jobs.values()
            if job.delete_time is not None and job.delete_time <= time
        ]
        return [job_id for _, job_id in sorted(found)[:limit]]


class MemoryWriting(MemoryReading):
    """Writing, with everything needed to undo it."""

    def __init__(self, records: _Records) -> None:
        super().__init__(records)
        self._undo: list[_Change] = []
        self._entries: list[tuple[JobId, bytes]] = []

    def undo(self) -> None:
        """Puts back what was there before this transaction."""
        for change in reversed(self._undo):
            change.undo()
        self._undo.clear()

    def take_lead(
        self, new_uuid: str, generation_min: int = 1, position_min: int = 0
    ) -> Installation:
        old = self.installation() or Installation(new_uuid, 0)
        taken = Installation(old.database_uuid, max(old.generation + 1, generation_min))
        self._set(self._records.installation, 1, taken)
        self._set(self._records.position, 1, max(self._records.position.get(1, 0), position_min))
        return taken

    def require_lead(self, generation: int) -> None:
        there = self.installation()
        current = there.generation if there else 0
        if current != generation:
            raise NotLeader(generation, current)

    def insert_job(self, job: Job) -> None:
        if job.job_id in self._records.jobs:
            raise JobIdTaken(job.job_id)
        self._store_job(job)
        for attempt in job.attempts:
            self.put_attempt(job.job_id, attempt)

    def move_job(self, guard: Guard, job: Job) -> bool:
        stored = self._records.jobs.get(job.job_id)
        if stored is None or (stored.state, stored.attempt) != (guard.state, guard.attempt):
            return False
        bound = stored.current.incarnation if stored.current else None
        if guard.incarnation is not None and guard.incarnation != bound:
            return False
        edited = replace(
            job,
            display_name=stored.display_name,
            labels=stored.labels,
            priority=stored.priority,
            delete_time=stored.delete_time,
        )
        self._store_job(edited)
        return True

    def edit_job(self, job: Job) -> None:
        stored = self._records.jobs.get(job.job_id)
        if stored is None:
            raise JobNotFound(job.job_id)
        edited = replace(
            stored,
            display_name=job.display_name,
            labels=dict(job.labels),
            priority=job.priority,
            update_time=job.update_time,
            delete_time=job.delete_time,
        )
        self._store_job(edited)

    def put_attempt(self, job_id: JobId, attempt: Attempt) -> None:
        key = RunKey(job_id, attempt.attempt)
        self._set(self._records.attempts, key, attempt)
        if attempt.slot_held:
            slot = HeldSlot(job_id, attempt.attempt, attempt.trainer_id, attempt.gpu_ids)
            self._set(self._records.slots, key, slot)
        else:
            self._remove(self._records.slots, key)

    def release_slot(self, key: RunKey) -> bool:
        if key not in self._records.slots:
            return False
        self.put_attempt(key.job_id, replace(self._records.attempts[key], slot_held=False))
        return True

    def insert_request(self, request: StoredRequest) -> None:
        if request.request_id in self._records.requests:
            raise Raced(request.job_id)
        self._set(self._records.requests, request.request_id, request)

    def reserve_output_dir(self, output_dir: str, job_id: JobId) -> None:
        owner = self.output_dir_owner(output_dir)
        if owner is not None:
            raise OutputDirTaken(output_dir, *owner)
        self._set(self._records.output_dirs, output_dir, job_id)

    def release_output_dir(self, job_id: JobId) -> None:
        self._remove_of(self._records.output_dirs, job_id)

    def insert_recipe(self, recipe_id: RecipeId, yaml: str, now: datetime) -> StoredRecipe:
        if self.recipe(RecipeRef(recipe_id)) is not None:
            raise RecipeExists(RecipeRef(recipe_id))
        version = self._records.recipe_counts.get(recipe_id, 0) + 1
        return self._store_recipe(StoredRecipe(recipe_id, version, yaml, now, now))

    def update_recipe(self, latest: RecipeRef, yaml: str, now: datetime) -> StoredRecipe | None:
        there = self.recipe(RecipeRef(latest.recipe_id))
        if there is None or there.version != latest.version:
            return None
        version = there.version + 1
        return self._store_recipe(
            StoredRecipe(latest.recipe_id, version, yaml, there.create_time, now)
        )

    def delete_recipe(self, recipe_id: RecipeId) -> bool:
        versions = [one for one in self._records.recipes if one.recipe_id == recipe_id]
        for one in versions:
            self._remove(self._records.recipes, one)
        return bool(versions)

    def put_trainer(self, trainer: Trainer) -> None:
        self._set(self._records.trainers, trainer.trainer_id, trainer)

    def put_progress(self, progress: Mapping[JobId, Progress]) -> None:
        for job_id, latest in progress.items():
            if job_id in self._records.jobs:
                self._set(self._records.progress, job_id, latest)

    def append_entry(self, job_id: JobId, payload: bytes) -> None:
        self._entries.append((job_id, payload))

    def put_monitor(self, monitor: MonitorRecord) -> None:
        self._set(self._records.monitors, monitor.reader, monitor)

    def remove_job(self, job_id: JobId) -> None:
        records = self._records
        self._remove_of(records.output_dirs, job_id)
        for request in [one for one in records.requests.values() if one.job_id == job_id]:
            self._remove(records.requests, request.request_id)
        for position in [one for one, event in records.events.items() if event[0] == job_id]:
            self._remove(records.events, position)
        for key in [one for one in records.attempts if one.job_id == job_id]:
            self._remove(records.attempts, key)
            self._remove(records.slots, key)
        self._remove(records.progress, job_id)
        self._remove(records.queued, job_id)
        self._remove(records.jobs, job_id)

    def give_positions(self) -> None:
        """Writes the events of this transaction."""
        for job_id, payload in self._entries:
            position = self._records.position.get(1, 0) + 1
            self._set(self._records.position, 1, position)
            self._set(self._records.events, position, (job_id, payload))
        self._entries.clear()

    def _store_recipe(self, recipe: StoredRecipe) -> StoredRecipe:
        ref = RecipeRef(recipe.recipe_id, recipe.version)
        self._set(self._records.recipes, ref, recipe)
        self._set(self._records.recipe_counts, recipe.recipe_id, recipe.version)
        return recipe

    def _store_job(self, job: Job) -> None:
        self._set(self._records.jobs, job.job_id, job)
        if job.state is not JobState.QUEUED or job.queue_time is None:
            self._remove(self._records.queued, job.job_id)
            return
        queued = QueuedJob(
            job.job_id,
            job.priority,
            job.create_time,
            job.queue_time,
            job.attempt,
            Requirement.of(job.spec),
        )
        self._set(self._records.queued, job.job_id, queued)

    def _set(self, table: MutableMapping[K, V], key: K, value: V) -> None:
        self._undo.append(_Change(table, key, table.get(key), key in table))
        table[key] = value

    def _remove(self, table: MutableMapping[K, V], key: K) -> None:
        if key in table:
            self._undo.append(_Change(table, key, table[key], existed=True))
            del table[key]

    def _remove_of(self, table: MutableMapping[str, JobId], job_id: JobId) -> None:
        for key in [one for one, owner in table.items() if owner == job_id]:
            self._remove(table, key)


class _Change:
    """One change of one table, and how to undo it."""

    def __init__(
        self, table: MutableMapping[K, V], key: K, before: V | None, existed: bool
    ) -> None:
        def undo() -> None:
            if existed and before is not None:
                table[key] = before
            else:
                table.pop(key, None)

        self.undo = undo
