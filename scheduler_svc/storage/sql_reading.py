"""What is read from the scheduler's tables, inside one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, literal, or_, select

from scheduler_svc.application.ports import (
    Installation,
    MonitorRecord,
    StoredEntry,
    StoredRequest,
    TimedRun,
)
from scheduler_svc.domain.fleet import HeldSlot, Trainer
from scheduler_svc.domain.job import Attempt, Job, JobId, Progress, TrainerId
from scheduler_svc.domain.policy import QueuedJob
from scheduler_svc.domain.query import JobQuery
from scheduler_svc.domain.recipe import RecipeRef, StoredRecipe
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.run import RunKey
from scheduler_svc.domain.states import JobState
from scheduler_svc.storage import filters, rows, tables

_QUEUED = JobState.QUEUED.value


class SqlReading:
    """Reading, over one connection that is in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def installation(self) -> Installation | None:
        row = self._first(select(tables.installation))
        return Installation(row["database_uuid"], row["generation"]) if row else None

    def job(self, job_id: JobId) -> Job | None:
        return self.jobs([job_id]).get(job_id)

    def jobs(self, job_ids: Collection[JobId]) -> Mapping[JobId, Job]:
        if not job_ids:
            return {}
        found = self._all(select(tables.jobs).where(tables.jobs.c.job_id.in_(sorted(job_ids))))
        return {job.job_id: job for job in self._with_attempts(found)}

    def list_jobs(self, query: JobQuery) -> Sequence[Job]:
        return self._with_attempts(self._all(list_statement(query)))

    def count_queue(self, at_most: int) -> int:
        states = (JobState.HELD.value, _QUEUED)
        some = (
            select(literal(1))
            .select_from(tables.jobs)
            .where(tables.jobs.c.state.in_(states))
            .limit(at_most)
            .subquery()
        )
        return self._connection.execute(select(func.count()).select_from(some)).scalar_one()

    def queue_shapes(self) -> Sequence[Requirement]:
        keys = self._connection.execute(shapes_statement()).scalars()
        return [Requirement.parse(key) for key in keys]

    def queue_heads(self, requirement: Requirement, limit: int) -> Sequence[QueuedJob]:
        return [
            QueuedJob(
                JobId(row["job_id"]),
                row["priority"],
                row["create_time"],
                row["queue_time"],
                row["attempt"],
                requirement,
            )
            for row in self._all(heads_statement(requirement.key, limit))
        ]

    def due_recoveries(self, now: datetime, limit: int) -> Sequence[JobId]:
        job = tables.jobs.c
        # A record from the future means that the wall clock was set back: its wait
        # would last for hours.
        due = or_(job.not_before <= now, job.update_time > now)
        found = self._connection.execute(
            select(job.job_id)
            .where(job.state == JobState.RECOVERING.value, due)
            .order_by(job.not_before, job.job_id)
            .limit(limit)
        )
        return [JobId(job_id) for job_id in found.scalars()]

    def timed_runs(self) -> Sequence[TimedRun]:
        job, attempt = tables.jobs.c, tables.attempts.c
        found = self._all(
            select(job.job_id, job.attempt, attempt.start_time, job.run_timeout_seconds)
            .join(
                tables.attempts,
                (attempt.job_id == job.job_id) & (attempt.attempt == job.attempt),
            )
            .where(
                job.state == JobState.RUNNING.value,
                job.run_timeout_seconds.is_not(None),
                attempt.start_time.is_not(None),
                attempt.timed_out.is_(False),
            )
            .order_by(job.job_id)
        )
        return [
            TimedRun(
                RunKey(JobId(row["job_id"]), row["attempt"]),
                row["start_time"],
                row["run_timeout_seconds"],
            )
            for row in found
        ]

    def held_slots(self, trainer_id: TrainerId | None = None) -> Sequence[HeldSlot]:
        attempt = tables.attempts.c
        statement = select(tables.attempts).where(attempt.slot_held.is_(True))
        if trainer_id is not None:
            statement = statement.where(attempt.trainer_id == trainer_id)
        held = [
            (JobId(row["job_id"]), rows.attempt_of(row))
            for row in self._all(statement.order_by(attempt.job_id, attempt.attempt))
        ]
        return [HeldSlot(job_id, one.attempt, one.trainer_id, one.gpu_ids) for job_id, one in held]

    def trainer(self, trainer_id: TrainerId) -> Trainer | None:
        row = self._first(select(tables.trainers).where(tables.trainers.c.trainer_id == trainer_id))
        return rows.trainer_of(row) if row else None

    def trainers(self) -> Sequence[Trainer]:
        found = self._all(select(tables.trainers).order_by(tables.trainers.c.trainer_id))
        return [rows.trainer_of(row) for row in found]

    def request(self, request_id: str) -> StoredRequest | None:
        row = self._first(select(tables.requests).where(tables.requests.c.request_id == request_id))
        return StoredRequest(**row) if row else None

    def output_dir_owner(self, output_dir: str) -> tuple[str, JobId] | None:
        column = tables.output_dirs.c.output_dir
        parts = output_dir.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        # "0" is the character after "/": everything below the folder is in between.
        below = (column > f"{output_dir}/") & (column < f"{output_dir}0")
        row = self._first(
            select(tables.output_dirs)
            .where(or_(column.in_(above), below))
            .order_by(column)
            .limit(1)
        )
        return (row["output_dir"], JobId(row["job_id"])) if row else None

    def recipe(self, ref: RecipeRef) -> StoredRecipe | None:
        head = tables.recipes.c
        version = ref.version or head.version
        row = self._first(
            recipes_statement().where(
                head.recipe_id == ref.recipe_id, tables.recipe_versions.c.version == version
            )
        )
        return StoredRecipe(**row) if row else None

    def recipes(self, after: str, limit: int) -> Sequence[StoredRecipe]:
        head = tables.recipes.c
        latest = recipes_statement().where(
            head.recipe_id > after, tables.recipe_versions.c.version == head.version
        )
        found = self._all(latest.order_by(head.recipe_id).limit(limit))
        return [StoredRecipe(**row) for row in found]

    def progress(self, job_ids: Collection[JobId]) -> Mapping[JobId, Progress]:
        if not job_ids:
            return {}
        table = tables.job_progress
        found = self._all(select(table).where(table.c.job_id.in_(sorted(job_ids))))
        return {JobId(row["job_id"]): rows.progress_of(row["progress"]) for row in found}

    def entries_after(self, position: int, limit: int) -> Sequence[StoredEntry]:
        event = tables.feed_events.c
        found = self._all(
            select(event.position, event.payload)
            .where(event.position > position)
            .order_by(event.position)
            .limit(limit)
        )
        return [StoredEntry(row["position"], row["payload"]) for row in found]

    def last_position_of(self, job_id: JobId) -> int:
        event = tables.feed_events.c
        last = select(func.max(event.position)).where(event.job_id == job_id)
        return self._connection.execute(last).scalar() or 0

    def monitors(self) -> Sequence[MonitorRecord]:
        reader = tables.feed_readers.c
        found = self._all(
            select(tables.feed_readers).order_by(reader.heard_time.desc(), reader.reader)
        )
        return [MonitorRecord(**row) for row in found]

    def deleted_before(self, time: datetime, limit: int) -> Sequence[JobId]:
        job = tables.jobs.c
        found = self._connection.execute(
            select(job.job_id)
            .where(job.delete_time <= time)
            .order_by(job.delete_time, job.job_id)
            .limit(limit)
        )
        return [JobId(job_id) for job_id in found.scalars()]

    def _with_attempts(self, found: Sequence[rows.Row]) -> list[Job]:
        attempt = tables.attempts.c
        latest = {row["job_id"]: row["attempt"] for row in found if row["attempt"]}
        by_job: dict[str, list[Attempt]] = {}
        if latest:
            statement = select(tables.attempts).where(attempt.job_id.in_(sorted(latest)))
            for row in self._all(statement.order_by(attempt.job_id, attempt.attempt)):
                # PostgreSQL may show an attempt that was made since the job was read.
                if row["attempt"] <= latest[row["job_id"]]:
                    by_job.setdefault(row["job_id"], []).append(rows.attempt_of(row))
        return [rows.job_of(row, by_job.get(row["job_id"], [])) for row in found]

    def _all(self, statement: Select[Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def _first(self, statement: Select[Any]) -> dict[str, Any] | None:
        row = self._connection.execute(statement).mappings().first()
        return dict(row) if row is not None else None


def recipes_statement() -> Select[Any]:
    """Every version of every recipe that is not deleted."""
    head, one = tables.recipes.c, tables.recipe_versions.c
    return (
        select(head.recipe_id, one.version, one.yaml, head.create_time, one.update_time)
        .join(tables.recipe_versions, one.recipe_id == head.recipe_id)
        .where(head.deleted.is_(False))
    )


def list_statement(query: JobQuery) -> Select[Any]:
    """One page of jobs."""
    return (
        select(tables.jobs)
        .where(*filters.conditions(query))
        .order_by(*filters.ordering(query.order))
        .limit(query.page_size)
    )


def shapes_statement() -> Select[str]:
    """Each requirement_key in the queue once.

    A loose index scan: it jumps from one key to the next, so that its cost grows
    with the number of keys, not of jobs.
    """
    job = tables.jobs.c
    lowest = select(func.min(job.requirement_key).label("key")).where(job.state == _QUEUED)
    keys = lowest.cte("keys", recursive=True)
    higher = (
        select(func.min(job.requirement_key))
        .where(job.state == _QUEUED, job.requirement_key > keys.c.key)
        .scalar_subquery()
    )
    keys = keys.union_all(select(higher).where(keys.c.key.is_not(None)))
    return select(keys.c.key).where(keys.c.key.is_not(None))


def heads_statement(requirement_key: str, limit: int) -> Select[Any]:
    """The first jobs of one requirement, in the queue's order."""
    job = tables.jobs.c
    return (
        select(job.job_id, job.priority, job.create_time, job.queue_time, job.attempt)
        .where(job.state == _QUEUED, job.requirement_key == requirement_key)
        .order_by(job.queue_rank, job.create_time, job.job_id)
        .limit(limit)
    )
