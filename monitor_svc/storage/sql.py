"""What the statements of the monitor's store have in common on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import Head, Labels, StoredEntry
from monitor_svc.storage.tables import feed_heads, log_clock


def insert_into(connection: Connection, table: Table) -> postgresql.Insert:
    """An INSERT that takes ON CONFLICT; both dialects spell it alike."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)  # type: ignore[return-value] # the same methods on both
    return postgresql.insert(table)


def lock_clock(connection: Connection) -> int:
    """The log's position, locked until the end of the transaction."""
    return int(connection.execute(select(log_clock.c.position).with_for_update()).scalar_one())


def read_clock(connection: Connection) -> int:
    """The log's position as of now."""
    return int(connection.execute(select(log_clock.c.position)).scalar_one())


def read_head(connection: Connection, job: str) -> Head | None:
    """A job's head, if there is one."""
    row = connection.execute(
        select(
            feed_heads.c.first_sequence, feed_heads.c.last_sequence, feed_heads.c.terminal_sequence
        ).where(feed_heads.c.job == job)
    ).one_or_none()
    return None if row is None else Head(*row)


def stored_entry(row: Any) -> StoredEntry:
    """An entry from its row (job, sequence, position, kind, payload, gap)."""
    return StoredEntry(
        row.job,
        row.sequence,
        row.position,
        row.kind,
        len(row.payload),
        Entry.FromString(row.payload),
        None if row.gap is None else Entry.FromString(row.gap),
    )


def labels_from(text: str | None) -> Labels | None:
    """Labels from their column."""
    if text is None:
        return None
    labels: dict[str, str] = json.loads(text)
    return labels
