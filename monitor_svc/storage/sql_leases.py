"""Sources, their leases and cursors in SQL."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Row, or_, select, update

from monitor_svc.domain.records import Cursor, Source
from monitor_svc.storage.sql import insert_into, lock_clock
from monitor_svc.storage.tables import feed_cursors, sources
from svckit.database import Database


class SqlLeases:
    """The lease side of the store; see monitor_svc.domain.ports.LeaseStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def know(self, addresses: Mapping[str, str]) -> None:
        """Inserts or updates each source."""
        if not addresses:
            return
        fresh = {"source": "", "holder": "", "holder_name": "", "epoch": 0, "beat": 0}
        rows = [{"key": k, "address": a, **fresh} for k, a in sorted(addresses.items())]
        with self._database.write() as connection:
            statement = insert_into(connection, sources)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[sources.c.key],
                    set_={"address": statement.excluded.address},
                    where=sources.c.address != statement.excluded.address,
                ),
                rows,
            )

    def sources(self) -> list[Source]:
        """Reads all."""
        with self._database.read() as connection:
            return _all_sources(connection)

    def beat(self, instance: str) -> list[Source]:
        """One statement for all leases of a process, however many sources it reads."""
        with self._database.write() as connection:
            connection.execute(
                update(sources).where(sources.c.holder == instance).values(beat=sources.c.beat + 1)
            )
            return _all_sources(connection)

    def claim(self, seen: Source, instance: str, name: str, epoch_min: int) -> int | None:
        """Guarded by epoch and beat; behind the clock's lock, so that no append is under way."""
        epoch = max(seen.epoch + 1, epoch_min)
        with self._database.write() as connection:
            lock_clock(connection)
            claimed = connection.execute(
                update(sources)
                .where(
                    sources.c.key == seen.key,
                    sources.c.epoch == seen.epoch,
                    sources.c.beat == seen.beat,
                )
                .values(holder=instance, holder_name=name, epoch=epoch, beat=0)
            )
            return epoch if claimed.rowcount == 1 else None

    def give_back(self, instance: str) -> None:
        """Frees what the process holds."""
        with self._database.write() as connection:
            connection.execute(
                update(sources).where(sources.c.holder == instance).values(holder="")
            )

    def bind(self, key: str, epoch: int, source: str) -> bool:
        """Guarded by the epoch."""
        with self._database.write() as connection:
            bound = connection.execute(
                update(sources)
                .where(sources.c.key == key, sources.c.epoch == epoch)
                .values(source=source)
            )
            return bound.rowcount == 1

    def cursors(self, source: str, ended_max: int) -> list[Cursor]:
        """Open ones, and the latest of the ended ones."""
        latest = (
            select(feed_cursors.c.stream)
            .where(feed_cursors.c.source == source, feed_cursors.c.ended)
            .order_by(feed_cursors.c.log_position.desc())
            .limit(ended_max)
        )
        wanted = or_(~feed_cursors.c.ended, feed_cursors.c.stream.in_(latest))
        query = (
            select(feed_cursors)
            .where(feed_cursors.c.source == source, wanted)
            .order_by(feed_cursors.c.stream)
        )
        with self._database.read() as connection:
            return [
                Cursor(row.source, row.stream, row.position, row.ended)
                for row in connection.execute(query)
            ]


def _all_sources(connection: Connection) -> list[Source]:
    return [_source(row) for row in connection.execute(select(sources).order_by(sources.c.key))]


def _source(row: Row[tuple[object, ...]]) -> Source:
    return Source(
        row.key, row.address, row.source, row.holder, row.holder_name, row.epoch, row.beat
    )
