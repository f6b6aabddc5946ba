"""The stores that the one suite runs against."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from scheduler_svc.application.ports import Store
from scheduler_svc.storage import schema
from scheduler_svc.storage.memory_store import MemoryStore
from scheduler_svc.storage.sql_store import SqlStore
from scheduler_svc.storage.tables import metadata
from svckit.database import Database
from tests.support.postgres import fresh_database


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[Database]:
    """One migrated database on a real PostgreSQL."""
    database = Database(fresh_database(postgres_url))
    schema.migrate(database)
    yield database
    database.close()


@pytest.fixture
def postgres(migrated_postgres: Database) -> Database:
    """The same, empty."""
    names = ", ".join(table.name for table in metadata.sorted_tables)
    with migrated_postgres.write() as connection:
        connection.execute(text(f"TRUNCATE {names}"))
        connection.execute(text("INSERT INTO feed_head (one, position) VALUES (1, 0)"))
    return migrated_postgres


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "scheduler.db"
    database = Database(f"sqlite:///{path}")
    schema.migrate(database)
    database.close()
    return path


@pytest.fixture
def sqlite(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite file of the test's own."""
    path = shutil.copy(migrated_sqlite, tmp_path)
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each real database in turn."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    if request.param == "memory":
        return MemoryStore()
    return SqlStore(request.getfixturevalue(request.param))
