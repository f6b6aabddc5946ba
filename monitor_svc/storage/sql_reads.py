"""Reading entries in SQL: by job and sequence, or by the log's position."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, select

from monitor_svc.domain.records import Head, JobPage, Labels, LogEntry, LogPage, Trimmed
from monitor_svc.storage.sql import labels_from, read_clock, read_head, stored_entry
from monitor_svc.storage.tables import entries, feed_heads, job_labels
from svckit.database import Database

SelectT = TypeVar("SelectT", bound=Select[Any])

_ENTRY = (
    entries.c.job,
    entries.c.sequence,
    entries.c.position,
    entries.c.kind,
    entries.c.payload,
    entries.c.gap,
)


class SqlReads:
    """The way out; see monitor_svc.domain.ports.ReadStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def position(self) -> int:
        """The clock."""
        with self._database.read() as connection:
            return read_clock(connection)

    def heads(self, jobs: Collection[str]) -> dict[str, Head]:
        """One query for all of them."""
        query = select(
            feed_heads.c.job,
            feed_heads.c.first_sequence,
            feed_heads.c.last_sequence,
            feed_heads.c.terminal_sequence,
        ).where(feed_heads.c.job.in_(jobs))
        with self._database.read() as connection:
            return {row[0]: Head(*row[1:]) for row in connection.execute(query)}

    def read_job(self, job: str, after: int, limit: int, kinds: Collection[int] = ()) -> JobPage:
        """The head first: what is appended in between belongs to the next page."""
        with self._database.read() as connection:
            head = read_head(connection, job) or Head(1, 0, 0)
            query = (
                select(*_ENTRY)
                .where(
                    entries.c.job == job,
                    entries.c.sequence > after,
                    entries.c.sequence <= head.last_sequence,
                    *_of_kinds(kinds),
                )
                .order_by(entries.c.sequence)
                .limit(limit)
            )
            found = [stored_entry(row) for row in connection.execute(query)]
        full = len(found) == limit
        return JobPage(head, found, found[-1].sequence if full else max(after, head.last_sequence))

    def read_log(
        self,
        after: int,
        limit: int,
        selector: Labels | None = None,
        kinds: Collection[int] = (),
    ) -> LogPage:
        """The clock first, likewise."""
        with self._database.read() as connection:
            clock = read_clock(connection)
            query = (
                select(*_ENTRY, feed_heads.c.labels)
                .join_from(entries, feed_heads, entries.c.job == feed_heads.c.job)
                .where(
                    entries.c.position > after,
                    entries.c.position <= clock,
                    *_of_kinds(kinds),
                )
                .order_by(entries.c.position)
                .limit(limit)
            )
            if selector is not None:
                query = _matching(query, selector)
            found = [
                LogEntry(stored_entry(row), labels_from(row.labels))
                for row in connection.execute(query)
            ]
        full = len(found) == limit
        return LogPage(found, found[-1].stored.position if full else max(after, clock))

    def trimmed_since(self, position: int, selector: Labels) -> list[Trimmed]:
        """By the position of the last entry that was removed."""
        query = _matching(
            select(feed_heads.c.job, feed_heads.c.first_sequence).where(
                feed_heads.c.trimmed_position > position
            ),
            selector,
        )
        with self._database.read() as connection:
            return [Trimmed(job, first - 1) for job, first in connection.execute(query)]

    def start_of_tail(self, job: str, kind: int, count: int) -> int:
        """Just before the `count`-th last one; 0 if there are not so many."""
        query = (
            select(entries.c.sequence)
            .where(entries.c.job == job, entries.c.kind == kind)
            .order_by(entries.c.sequence.desc())
            .offset(count - 1)
            .limit(1)
        )
        with self._database.read() as connection:
            first = connection.scalar(query)
        return 0 if first is None else first - 1


def _of_kinds(kinds: Collection[int]) -> list[ColumnElement[bool]]:
    return [entries.c.kind.in_(kinds)] if kinds else []


def _matching(query: SelectT, selector: Labels) -> SelectT:
    query = query.where(feed_heads.c.labels.is_not(None))
    for label, value in selector.items():
        having = select(job_labels.c.job).where(
            job_labels.c.label == label, job_labels.c.value == value
        )
        query = query.where(feed_heads.c.job.in_(having))
    return query
