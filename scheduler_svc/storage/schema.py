"""Brings a database to the tables of this version, and says where the two differ."""

from __future__ import annotations

from pathlib import Path

from scheduler_svc.storage.tables import VERSION_TABLE, metadata
from svckit import migrations
from svckit.database import Database

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Applies what is missing, under a lock. Raises svckit.migrations.UnknownRevision for a
    database that is newer than this code."""
    migrations.migrate(database, SCRIPTS, VERSION_TABLE)


def drift(database: Database) -> list[object]:
    """What differs between the code's tables and a migrated database; empty if nothing."""
    return migrations.drift(database, metadata, VERSION_TABLE)
