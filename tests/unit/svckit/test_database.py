"""Transactions on SQLite and PostgreSQL: nothing lost, nothing half written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from svckit.database import Database
from svckit.refusal import DatabaseBusy, DatabaseUnavailable


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'test.db'}")
    else:
        made = Database(request.getfixturevalue("postgres_database"))
    with made.write() as connection:
        connection.execute(text("CREATE TABLE counter (name VARCHAR(10), value INTEGER)"))
        connection.execute(text("INSERT INTO counter VALUES ('a', 0)"))
    yield made
    made.close()


def value_of(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT value FROM counter")).scalar_one())


def test_eight_concurrent_increments_make_eight(database: Database) -> None:
    def increment(_: int) -> None:
        with database.write() as connection:
            lock = "" if database.is_sqlite else " FOR UPDATE"
            value = connection.execute(text(f"SELECT value FROM counter{lock}")).scalar_one()
            connection.execute(text("UPDATE counter SET value = :v"), {"v": value + 1})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(increment, range(8)))

    assert value_of(database) == 8


def test_an_exception_leaves_nothing_written(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(text("UPDATE counter SET value = 7"))
        _ = 1 / 0

    assert value_of(database) == 0


async def test_run_hops_to_a_thread(database: Database) -> None:
    assert await database.run(value_of, database) == 0


def test_a_database_that_answers_pings(database: Database) -> None:
    assert database.ping()


def test_a_locked_sqlite_is_busy_with_a_retry_delay(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}", busy_timeout_ms=50)
    holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(DatabaseBusy) as caught, database.write():
        pass

    assert caught.value.retry_delay_seconds == 1.0
    holder.close()
    database.close()


def test_an_unreachable_postgres_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")

    with pytest.raises(DatabaseUnavailable), database.read():
        pass

    assert not database.ping()
    database.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="database_url"):
        Database(url)
