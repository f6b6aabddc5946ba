"""The scheduler's feed: its events in commit order, and who reads them.

The source is the database's UUID, the stream is "events". Positions are given
under one lock at the commit, so asking for what follows the last position seen
misses nothing.
"""

from __future__ import annotations

from dataclasses import replace

from scheduler_svc.application.ports import Clock, MonitorRecord, Store, StoredEntry, Writing
from scheduler_svc.domain.errors import StaleReader

STREAM = "events"


class Feed:
    """What monitors read."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def after(self, position: int, limit: int) -> tuple[StoredEntry, ...]:
        """At most `limit` entries that follow; empty if there is nothing new."""
        with self._store.read() as tx:
            return tuple(tx.entries_after(position, limit))

    def announce(self, reader: str, address: str, epoch: int) -> None:
        """A monitor starts to read, or reads on. Raises StaleReader."""
        with self._store.write() as tx:
            known = self._checked(tx, reader, epoch)
            tx.put_monitor(replace(known, address=address or known.address))

    def acknowledge(self, reader: str, epoch: int, position: int) -> None:
        """Everything up to `position` is stored there for good. Raises StaleReader."""
        with self._store.write() as tx:
            known = self._checked(tx, reader, epoch)
            tx.put_monitor(replace(known, position=max(known.position, position)))

    def _checked(self, tx: Writing, reader: str, epoch: int) -> MonitorRecord:
        now = self._clock.now()
        monitors = tx.monitors()
        newest = max((one.epoch for one in monitors), default=0)
        if epoch < newest:
            raise StaleReader(reader, epoch, newest)
        known = next((one for one in monitors if one.reader == reader), None)
        if known is None:
            return MonitorRecord(reader, "", epoch, 0, now)
        return replace(known, epoch=epoch, heard_time=now)
