"""Appending in SQL: one transaction for entries, sequences, cursors and what is held back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set

from sqlalchemy import Connection, delete, func, or_, select, tuple_, update

from monitor_svc.domain import admission
from monitor_svc.domain.admission import Outcome, Plan, StreamKey, View
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import (
    Appended,
    Arrival,
    Cursor,
    Held,
    Labels,
    Retention,
    Wait,
)
from monitor_svc.storage.sql import insert_into, lock_clock
from monitor_svc.storage.sql_drafts import append_drafts
from monitor_svc.storage.tables import (
    entries,
    feed_cursors,
    feed_heads,
    held_entries,
    held_waits,
    job_labels,
    log_clock,
    sources,
)
from svckit.database import Database


class SqlWrites:
    """The way in; see monitor_svc.domain.ports.WriteStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, arrivals: Sequence[Arrival], now: float) -> tuple[list[Outcome], Appended]:
        """Locks the clock, looks, decides, writes."""
        with self._database.write() as connection:
            position = lock_clock(connection)
            plan = admission.admit(arrivals, _view(connection, arrivals))
            return plan.outcomes, _carry_out(connection, plan, position, now)

    def release_held(self, key: str, epoch: int, expired: Set[int], now: float) -> Appended | None:
        """The same with nothing new."""
        with self._database.write() as connection:
            position = lock_clock(connection)
            if _epochs(connection, {key}).get(key) != epoch:
                return None
            held = _held(connection, None)
            view = View({}, _positions(connection, _waited_for(held)), held)
            return _carry_out(connection, admission.admit((), view, expired), position, now)

    def held(self) -> list[Held]:
        """All, oldest first."""
        with self._database.read() as connection:
            return _held(connection, None)

    def set_labels(self, job: str, labels: Labels) -> None:
        """In place, or as the first time."""
        with self._database.write() as connection:
            position = lock_clock(connection)
            _set_clock(connection, _learn_labels(connection, job, labels, position))

    def jobs_without_labels(self, limit: int) -> list[str]:
        """Oldest change first."""
        query = (
            select(feed_heads.c.job)
            .where(feed_heads.c.labels_stale)
            .order_by(feed_heads.c.append_time)
            .limit(limit)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def trim(self, retention: Retention, now: float, jobs_max: int) -> int:
        """Jobs with too many entries, then jobs that have been silent for too long."""
        with self._database.write() as connection:
            lock_clock(connection)
            return sum(
                _trim_job(connection, job, first)
                for job, first in _to_trim(connection, retention, now, jobs_max)
            )


def _view(connection: Connection, arrivals: Sequence[Arrival]) -> View:
    sources_of = {arrival.source for arrival in arrivals}
    named = admission.jobs_named(arrivals)
    held: list[Held] = []
    if connection.scalar(select(held_entries.c.held_id).limit(1)) is not None:
        waiting = select(held_waits.c.held_id).where(held_waits.c.source.in_(sources_of))
        concerned = select(held_entries.c.job).where(
            or_(held_entries.c.job.in_(named), held_entries.c.held_id.in_(waiting))
        )
        held = _held(connection, set(connection.scalars(concerned)))
    streams = admission.streams_needed(arrivals) | _waited_for(held)
    epochs = _epochs(connection, {arrival.key for arrival in arrivals})
    return View(epochs, _positions(connection, streams), held)


def _epochs(connection: Connection, keys: Iterable[str]) -> dict[str, int]:
    query = select(sources.c.key, sources.c.epoch).where(sources.c.key.in_(keys))
    return dict(iter(connection.execute(query)))


def _positions(connection: Connection, streams: Set[StreamKey]) -> dict[StreamKey, int]:
    if not streams:
        return {}
    query = select(feed_cursors.c.source, feed_cursors.c.stream, feed_cursors.c.position).where(
        tuple_(feed_cursors.c.source, feed_cursors.c.stream).in_(sorted(streams))
    )
    return {(source, stream): at for source, stream, at in connection.execute(query)}


def _held(connection: Connection, jobs: Set[str] | None) -> list[Held]:
    """Held entries of some jobs, or of all."""
    query = select(held_entries).order_by(held_entries.c.held_id)
    if jobs is not None:
        if not jobs:
            return []
        query = query.where(held_entries.c.job.in_(jobs))
    rows = connection.execute(query).all()
    waits: dict[int, list[Wait]] = {}
    ids = [row.held_id for row in rows]
    for wait in connection.execute(select(held_waits).where(held_waits.c.held_id.in_(ids))):
        waits.setdefault(wait.held_id, []).append(Wait(wait.source, wait.stream, wait.position))
    return [
        Held(r.held_id, r.job, Entry.FromString(r.payload), tuple(waits.get(r.held_id, ())))
        for r in rows
    ]


def _waited_for(held: Iterable[Held]) -> set[StreamKey]:
    return {(wait.source, wait.stream) for one in held for wait in one.waits}


def _carry_out(connection: Connection, plan: Plan, position: int, now: float) -> Appended:
    start = position
    for job, labels in plan.labels.items():
        position = _learn_labels(connection, job, labels, position)
    appended = append_drafts(connection, plan.drafts, position, now)
    _move_cursors(connection, plan.cursors.values(), appended.position)
    _hold(connection, plan.held)
    for table in (held_entries, held_waits):
        if plan.released:
            connection.execute(delete(table).where(table.c.held_id.in_(plan.released)))
    if plan.labels_stale:
        connection.execute(
            update(feed_heads)
            .where(feed_heads.c.job.in_(plan.labels_stale))
            .values(labels_stale=True)
        )
    if appended.position != start:
        _set_clock(connection, appended.position)
    return appended


def _move_cursors(connection: Connection, cursors: Iterable[Cursor], position: int) -> None:
    rows = [
        {
            "source": cursor.source,
            "stream": cursor.stream,
            "position": cursor.position,
            "ended": cursor.ended,
            "log_position": position,
        }
        for cursor in cursors
    ]
    if not rows:
        return
    statement = insert_into(connection, feed_cursors)
    moved = {name: statement.excluded[name] for name in ("position", "ended", "log_position")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["source", "stream"], set_=moved), rows
    )


def _hold(connection: Connection, held: Iterable[Held]) -> None:
    for one in held:
        inserted = connection.execute(
            held_entries.insert()
            .values(job=one.job, payload=one.entry.SerializeToString())
            .returning(held_entries.c.held_id)
        ).scalar_one()
        for wait in set(one.waits):
            connection.execute(
                held_waits.insert().values(
                    held_id=inserted,
                    source=wait.source,
                    stream=wait.stream,
                    position=wait.position,
                )
            )


def _set_clock(connection: Connection, position: int) -> None:
    connection.execute(update(log_clock).values(position=position))


def _learn_labels(connection: Connection, job: str, labels: Labels, position: int) -> int:
    """Sets the labels; the log's new position."""
    head = connection.execute(select(feed_heads).where(feed_heads.c.job == job)).one_or_none()
    if head is None:
        connection.execute(
            feed_heads.insert().values(
                job=job,
                first_sequence=1,
                last_sequence=0,
                terminal_sequence=0,
                trimmed_position=0,
                append_time=0.0,
                labels_stale=False,
            )
        )
    text = json.dumps(dict(labels), sort_keys=True)
    connection.execute(
        update(feed_heads).where(feed_heads.c.job == job).values(labels=text, labels_stale=False)
    )
    connection.execute(delete(job_labels).where(job_labels.c.job == job))
    if labels:
        rows = [{"job": job, "label": name, "value": value} for name, value in labels.items()]
        connection.execute(job_labels.insert(), rows)
    if head is None or head.labels is not None or head.last_sequence < head.first_sequence:
        return position
    # Those who select by label have not seen these entries: for them they come now.
    connection.execute(
        update(entries)
        .where(entries.c.job == job)
        .values(position=position + 1 + entries.c.sequence - head.first_sequence)
    )
    return position + 1 + int(head.last_sequence) - int(head.first_sequence)


def _to_trim(
    connection: Connection, retention: Retention, now: float, jobs_max: int
) -> list[tuple[str, int]]:
    """Jobs and the first sequence that each is to keep."""
    found: dict[str, int] = {}
    heads = select(feed_heads.c.job, feed_heads.c.last_sequence).limit(jobs_max)
    count = feed_heads.c.last_sequence - feed_heads.c.first_sequence + 1
    if retention.entries_per_job_max:
        crowded = heads.where(count > retention.entries_per_job_max)
        for job, last in connection.execute(crowded):
            found[job] = last - retention.entries_per_job_max + 1
    if retention.idle_seconds_max:
        silent = heads.where(feed_heads.c.append_time < now - retention.idle_seconds_max, count > 0)
        for job, last in connection.execute(silent):
            found[job] = last + 1
    return list(found.items())


def _trim_job(connection: Connection, job: str, first: int) -> int:
    goes = (entries.c.job == job, entries.c.sequence < first)
    last_position = connection.scalar(select(func.max(entries.c.position)).where(*goes)) or 0
    connection.execute(
        update(feed_heads)
        .where(feed_heads.c.job == job)
        .values(first_sequence=first, trimmed_position=last_position)
    )
    return connection.execute(delete(entries).where(*goes)).rowcount
