"""The monitor's store on SQLite or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from monitor_svc.storage.sql_leases import SqlLeases
from monitor_svc.storage.sql_reads import SqlReads
from monitor_svc.storage.sql_writes import SqlWrites
from monitor_svc.storage.tables import VERSION_TABLE
from svckit.database import Database
from svckit.migrations import migrate

MIGRATIONS = Path(__file__).parent / "migrations"


class SqlStore(SqlLeases, SqlWrites, SqlReads):
    """See monitor_svc.domain.ports.Store."""


def open_sql_store(database: Database) -> SqlStore:
    """Brings the schema up to date, then opens it.

    Raises UnknownRevision if the database is newer than this code, a Refusal
    if it cannot be reached.
    """
    migrate(database, MIGRATIONS, VERSION_TABLE)
    return SqlStore(database)
