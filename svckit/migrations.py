"""Schema migrations: applied at start, under a lock, by Alembic.

Refuses a database that is newer than this code: a scheduler that was rolled
back must not write to tables it does not know.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

from svckit.database import Database, refusing

# Any constant will do; it keeps two services' migrations on one PostgreSQL apart from nobody else.
_ADVISORY_LOCK = 0x7475_6E65


class UnknownRevision(Exception):
    """The database is at a revision that this code does not have."""


def migrate(database: Database, scripts: Path, version_table: str) -> None:
    """Brings the schema to the newest revision in `scripts`. Safe to call twice, and at once.

    The scripts' env.py takes its connection and version table from
    `config.attributes["connection"]` and `["version_table"]`.
    """
    config = Config()
    config.set_main_option("script_location", str(scripts))
    with _locked(database), database.write() as connection:
        current = _context(connection, version_table).get_current_revision()
        known = {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}
        if current is not None and current not in known:
            raise UnknownRevision(
                f"the database is at revision {current}, which this version does not know"
            )
        config.attributes["connection"] = connection
        config.attributes["version_table"] = version_table
        command.upgrade(config, "head")


def drift(database: Database, metadata: MetaData, version_table: str) -> list[object]:
    """What differs between the tables in the code and in a migrated database; empty if nothing."""
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": version_table,
                "compare_type": True,
                "include_name": lambda name, kind, _parents: (
                    kind != "table" or name in metadata.tables
                ),
            },
        )
        return list(compare_metadata(context, metadata))


def _context(connection: Connection, version_table: str) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": version_table})


@contextmanager
def _locked(database: Database) -> Iterator[None]:
    if database.is_sqlite:
        with Path(f"{database.url.database}.migration-lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with refusing(), database.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
            connection.commit()
