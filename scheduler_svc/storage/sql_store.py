"""The store on SQLite and PostgreSQL.

Owns the guarded UPDATE of each move, and the feed's positions: they are given
at the very end of a transaction under one locked row, so that they are in the
order of the commits. Locks are taken in the order installation, trainers, jobs,
feed_head; two transactions never wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, case, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from scheduler_svc.application.ports import (
    Guard,
    Installation,
    MonitorRecord,
    Raced,
    StoredRequest,
)
from scheduler_svc.domain.errors import (
    JobIdTaken,
    JobNotFound,
    NotLeader,
    OutputDirTaken,
    RecipeExists,
)
from scheduler_svc.domain.fleet import Trainer
from scheduler_svc.domain.job import Attempt, Job, JobId, Progress, TrainerId
from scheduler_svc.domain.recipe import RecipeId, RecipeRef, StoredRecipe
from scheduler_svc.domain.run import RunKey
from scheduler_svc.storage import rows, tables
from scheduler_svc.storage.sql_reading import SqlReading
from svckit.database import Database

_ONE = 1


class SqlStore:
    """Store over a database that is migrated."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def read(self) -> Iterator[SqlReading]:
        """A transaction that only reads."""
        with self._database.read() as connection:
            yield SqlReading(connection)

    @contextmanager
    def write(self) -> Iterator[SqlWriting]:
        """A transaction that may write."""
        with self._database.write() as connection:
            writing = SqlWriting(connection)
            yield writing
            writing.give_positions()


class SqlWriting(SqlReading):
    """Writing, over one connection that is in a transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._entries: list[tuple[JobId, bytes]] = []

    def trainer(self, trainer_id: TrainerId) -> Trainer | None:
        # Locked: trainers are replaced whole, by registrations and by cordons.
        row = self._first(
            select(tables.trainers)
            .where(tables.trainers.c.trainer_id == trainer_id)
            .with_for_update()
        )
        return rows.trainer_of(row) if row else None

    def take_lead(
        self, new_uuid: str, generation_min: int = 1, position_min: int = 0
    ) -> Installation:
        table = tables.installation
        head = tables.feed_head
        values = {"one": _ONE, "database_uuid": new_uuid, "generation": 0}
        self._insert_if_new(table, values)
        statement = (
            update(table)
            .where(table.c.one == _ONE)
            .values(
                generation=case(
                    (table.c.generation >= generation_min, table.c.generation + 1),
                    else_=generation_min,
                )
            )
            .returning(table.c.database_uuid, table.c.generation)
        )
        row = self._connection.execute(statement).one()
        self._connection.execute(
            update(head).where(head.c.position < position_min).values(position=position_min)
        )
        return Installation(row.database_uuid, row.generation)

    def require_lead(self, generation: int) -> None:
        locked = select(tables.installation.c.generation).with_for_update()
        current = self._connection.execute(locked).scalar() or 0
        if current != generation:
            raise NotLeader(generation, current)

    def insert_job(self, job: Job) -> None:
        if not self._insert_if_new(tables.jobs, rows.job_values(job)):
            raise JobIdTaken(job.job_id)
        self._insert_labels(job)
        for attempt in job.attempts:
            self.put_attempt(job.job_id, attempt)

    def move_job(self, guard: Guard, job: Job) -> bool:
        column = tables.jobs.c
        conditions = [
            column.job_id == job.job_id,
            column.state == guard.state.value,
            column.attempt == guard.attempt,
        ]
        if guard.incarnation is not None:
            conditions.append(column.incarnation == guard.incarnation)
        moved = self._connection.execute(
            update(tables.jobs)
            .where(*conditions)
            .values(rows.move_values(job))
            .returning(column.job_id)
        )
        return moved.first() is not None

    def edit_job(self, job: Job) -> None:
        column = tables.jobs.c
        edited = self._connection.execute(
            update(tables.jobs)
            .where(column.job_id == job.job_id)
            .values(rows.edit_values(job))
            .returning(column.job_id)
        )
        if edited.first() is None:
            raise JobNotFound(job.job_id)
        labels = tables.job_labels
        self._connection.execute(delete(labels).where(labels.c.job_id == job.job_id))
        self._insert_labels(job)

    def put_attempt(self, job_id: JobId, attempt: Attempt) -> None:
        self._put(tables.attempts, rows.attempt_values(job_id, attempt))

    def release_slot(self, key: RunKey) -> bool:
        attempt = tables.attempts.c
        released = self._connection.execute(
            update(tables.attempts)
            .where(
                attempt.job_id == key.job_id,
                attempt.attempt == key.attempt,
                attempt.slot_held.is_(True),
            )
            .values(slot_held=False)
            .returning(attempt.job_id)
        )
        return released.first() is not None

    def insert_request(self, request: StoredRequest) -> None:
        values = {
            "request_id": request.request_id,
            "fingerprint": request.fingerprint,
            "job_id": request.job_id,
        }
        if not self._insert_if_new(tables.requests, values):
            raise Raced(request.job_id)

    def reserve_output_dir(self, output_dir: str, job_id: JobId) -> None:
        owner = self.output_dir_owner(output_dir)
        if owner is not None:
            raise OutputDirTaken(output_dir, *owner)
        values = {"output_dir": output_dir, "job_id": job_id}
        if not self._insert_if_new(tables.output_dirs, values):
            raise Raced(job_id)  # reserved a moment ago; the next try names by whom

    def release_output_dir(self, job_id: JobId) -> None:
        table = tables.output_dirs
        self._connection.execute(delete(table).where(table.c.job_id == job_id))

    def insert_recipe(self, recipe_id: RecipeId, yaml: str, now: datetime) -> StoredRecipe:
        head = tables.recipes
        first = {"recipe_id": recipe_id, "version": 1, "deleted": False, "create_time": now}
        if self._insert_if_new(head, first):
            return self._insert_version(StoredRecipe(recipe_id, 1, yaml, now, now))
        again = self._connection.execute(
            update(head)
            .where(head.c.recipe_id == recipe_id, head.c.deleted.is_(True))
            .values(version=head.c.version + 1, deleted=False, create_time=now)
            .returning(head.c.version)
        ).scalar()
        if again is None:
            raise RecipeExists(RecipeRef(recipe_id))
        return self._insert_version(StoredRecipe(recipe_id, again, yaml, now, now))

    def update_recipe(self, latest: RecipeRef, yaml: str, now: datetime) -> StoredRecipe | None:
        head = tables.recipes
        moved = self._connection.execute(
            update(head)
            .where(
                head.c.recipe_id == latest.recipe_id,
                head.c.version == latest.version,
                head.c.deleted.is_(False),
            )
            .values(version=head.c.version + 1)
            .returning(head.c.version, head.c.create_time)
        ).first()
        if moved is None:
            return None
        return self._insert_version(
            StoredRecipe(latest.recipe_id, moved.version, yaml, moved.create_time, now)
        )

    def delete_recipe(self, recipe_id: RecipeId) -> bool:
        head, versions = tables.recipes, tables.recipe_versions
        deleted = self._connection.execute(
            update(head)
            .where(head.c.recipe_id == recipe_id, head.c.deleted.is_(False))
            .values(deleted=True)
            .returning(head.c.recipe_id)
        )
        if deleted.first() is None:
            return False
        self._connection.execute(delete(versions).where(versions.c.recipe_id == recipe_id))
        return True

    def put_trainer(self, trainer: Trainer) -> None:
        self._put(tables.trainers, rows.trainer_values(trainer))

    def put_progress(self, progress: Mapping[JobId, Progress]) -> None:
        column = tables.jobs.c.job_id
        there = self._connection.execute(select(column).where(column.in_(sorted(progress))))
        for job_id in sorted(there.scalars()):
            text = rows.progress_text(progress[JobId(job_id)])
            self._put(tables.job_progress, {"job_id": job_id, "progress": text})

    def append_entry(self, job_id: JobId, payload: bytes) -> None:
        self._entries.append((job_id, payload))

    def put_monitor(self, monitor: MonitorRecord) -> None:
        values = {
            "reader": monitor.reader,
            "address": monitor.address,
            "epoch": monitor.epoch,
            "position": monitor.position,
            "heard_time": monitor.heard_time,
        }
        self._put(tables.feed_readers, values)

    def remove_job(self, job_id: JobId) -> None:
        for table in (
            tables.attempts,
            tables.job_labels,
            tables.job_progress,
            tables.output_dirs,
            tables.requests,
            tables.feed_events,
            tables.jobs,
        ):
            self._connection.execute(delete(table).where(table.c.job_id == job_id))

    def give_positions(self) -> None:
        """Writes the events of this transaction. Nothing but the commit comes after it."""
        if not self._entries:
            return
        head = tables.feed_head
        count = len(self._entries)
        last = self._connection.execute(
            update(head)
            .where(head.c.one == _ONE)
            .values(position=head.c.position + count)
            .returning(head.c.position)
        ).scalar_one()
        first = last - count + 1
        self._connection.execute(
            insert(tables.feed_events),
            [
                {"position": first + offset, "job_id": job_id, "payload": payload}
                for offset, (job_id, payload) in enumerate(self._entries)
            ],
        )
        self._entries.clear()

    def _insert_version(self, recipe: StoredRecipe) -> StoredRecipe:
        values = {
            "recipe_id": recipe.recipe_id,
            "version": recipe.version,
            "yaml": recipe.yaml,
            "update_time": recipe.update_time,
        }
        self._connection.execute(insert(tables.recipe_versions).values(values))
        return recipe

    def _insert_labels(self, job: Job) -> None:
        if job.labels:
            self._connection.execute(
                insert(tables.job_labels),
                [
                    {"job_id": job.job_id, "key": key, "value": value}
                    for key, value in sorted(job.labels.items())
                ],
            )

    def _insert_if_new(self, table: Table, values: dict[str, Any]) -> bool:
        """Waits for a transaction that is inserting the same key; False if it is there."""
        statement = self._dialect_insert(table).values(values).on_conflict_do_nothing()
        inserted = self._connection.execute(statement.returning(*table.primary_key))
        return inserted.first() is not None

    def _put(self, table: Table, values: dict[str, Any]) -> None:
        keys = [column.name for column in table.primary_key]
        others = {name: value for name, value in values.items() if name not in keys}
        statement = self._dialect_insert(table).values(values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others))

    def _dialect_insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        # Both have ON CONFLICT in the same words, but not in the common Insert.
        if self._connection.dialect.name == "sqlite":
            return sqlite.insert(table)
        return postgresql.insert(table)
