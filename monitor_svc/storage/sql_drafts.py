"""Giving entries their sequences and positions, and inserting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, update

from monitor_svc.domain import entries as kinds
from monitor_svc.domain.admission import Draft
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.records import Appended, LogEntry, StoredEntry
from monitor_svc.storage.sql import insert_into, labels_from
from monitor_svc.storage.tables import entries, feed_heads


def append_drafts(
    connection: Connection, drafts: Sequence[Draft], position: int, now: float
) -> Appended:
    """Inserts the drafts in their order; `position` is the log's, locked by the caller."""
    counts = Counter(draft.job for draft in drafts if draft.entry is not None)
    heads = {
        job: _allocate(connection, job, counts[job], now)
        for job in dict.fromkeys(draft.job for draft in drafts)
    }
    numbering = _Numbering(heads, counts, position)
    for draft in drafts:
        numbering.take(draft)
    if numbering.rows:
        connection.execute(entries.insert(), numbering.rows)
    _update_heads(connection, numbering)
    return Appended(position, position + len(numbering.appended), numbering.appended)


class _Numbering:
    """Hands out numbers, and keeps gaps until there is an entry to put them before."""

    def __init__(self, heads: dict[str, Row[Any]], counts: Counter[str], position: int) -> None:
        self.rows: list[dict[str, object]] = []
        self.appended: list[LogEntry] = []
        self.terminals: dict[str, int] = {}
        self.gaps = {job: _gap_of(head) for job, head in heads.items()}
        self.had_gap = {job for job, gap in self.gaps.items() if gap is not None}
        self._labels = {job: labels_from(head.labels) for job, head in heads.items()}
        self._next = {job: head.last_sequence - counts[job] + 1 for job, head in heads.items()}
        self._position = position

    def take(self, draft: Draft) -> None:
        if draft.gap is not None:
            self.gaps[draft.job] = draft.gap
        if draft.entry is None:
            return
        entry, gap = draft.entry, self.gaps[draft.job]
        self.gaps[draft.job] = None
        self._position += 1
        entry.sequence = self._next[draft.job]
        self._next[draft.job] += 1
        if kinds.is_terminal(entry):
            self.terminals[draft.job] = entry.sequence
        self._add(entry, gap)

    def _add(self, entry: Entry, gap: Entry | None) -> None:
        payload, kind = entry.SerializeToString(), kinds.kind_of(entry)
        self.rows.append(
            {
                "job": entry.job,
                "sequence": entry.sequence,
                "position": self._position,
                "kind": kind,
                "attempt": entry.attempt,
                "time_us": entry.time.ToMicroseconds(),
                "payload": payload,
                "gap": None if gap is None else gap.SerializeToString(),
            }
        )
        stored = StoredEntry(
            entry.job, entry.sequence, self._position, kind, len(payload), entry, gap
        )
        self.appended.append(LogEntry(stored, self._labels[entry.job]))


def _allocate(connection: Connection, job: str, count: int, now: float) -> Row[Any]:
    """Takes `count` sequences of a job; its head afterwards."""
    statement = insert_into(connection, feed_heads).values(
        job=job,
        first_sequence=1,
        last_sequence=count,
        terminal_sequence=0,
        trimmed_position=0,
        append_time=now,
        # Nobody has told them yet.
        labels_stale=True,
    )
    return connection.execute(
        statement.on_conflict_do_update(
            index_elements=["job"],
            set_={"last_sequence": feed_heads.c.last_sequence + count, "append_time": now},
        ).returning(feed_heads.c.last_sequence, feed_heads.c.labels, feed_heads.c.pending_gap)
    ).one()


def _gap_of(head: Row[Any]) -> Entry | None:
    return None if head.pending_gap is None else Entry.FromString(head.pending_gap)


def _update_heads(connection: Connection, numbering: _Numbering) -> None:
    for job, sequence in numbering.terminals.items():
        connection.execute(
            update(feed_heads)
            .where(feed_heads.c.job == job, feed_heads.c.terminal_sequence == 0)
            .values(terminal_sequence=sequence)
        )
    for job, gap in numbering.gaps.items():
        if gap is not None or job in numbering.had_gap:
            connection.execute(
                update(feed_heads)
                .where(feed_heads.c.job == job)
                .values(pending_gap=None if gap is None else gap.SerializeToString())
            )
