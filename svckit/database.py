"""SQLite or PostgreSQL behind SQLAlchemy Core, with transactions that are short and guarded.

Writers on SQLite take the lock at once (BEGIN IMMEDIATE): a transaction that
reads first and writes later would fail or lose an update. Refuses with
DatabaseBusy, DatabaseUnavailable or StorageFull; a transaction is all or nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from svckit.refusal import DatabaseBusy, DatabaseUnavailable, Refusal, StorageFull

P = ParamSpec("P")
T = TypeVar("T")

# Longest wait for another writer before a call is refused.
BUSY_TIMEOUT_MS = 5_000
_THREADS = 8
_IMMEDIATE = "tunewright_immediate"


class Database:
    """One database. `url` is SQLAlchemy's: sqlite:///path or postgresql://..."""

    def __init__(self, url: str, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.url = _normalised(make_url(url))
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = (
            _sqlite_engine(self.url, busy_timeout_ms)
            if self.is_sqlite
            else _postgres_engine(self.url)
        )
        self._busy_seconds = busy_timeout_ms / 1000
        # SQLite's own wait for a writer is a poll with growing pauses, in no order: some
        # writers then wait many times longer than others. Queueing up here evens that
        # out; the rate is the same.
        self._writer = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, rolled back on any exception."""
        with self._turn(), refusing(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_IMMEDIATE: True})
            with connection.begin():
                yield connection

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One writer of this process at a time on SQLite; PostgreSQL needs no turns."""
        if not self.is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=self._busy_seconds):
            raise DatabaseBusy("the database is locked", retry_delay_seconds=1.0)
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, on one snapshot with SQLite."""
        with refusing(), self.engine.connect() as connection, connection.begin():
            yield connection

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a synchronous function on one of the database's threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def ping(self) -> bool:
        """True if the database answers."""
        try:
            with self.read() as connection:
                connection.execute(text("SELECT 1"))
        except Refusal:
            return False
        return True

    def close(self) -> None:
        """Ends threads and connections. Safe to call twice."""
        self._threads.shutdown(wait=True)
        self.engine.dispose()


def _normalised(url: URL) -> URL:
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(drivername="sqlite")
    raise ValueError(
        f"database_url: {url.render_as_string()} is neither sqlite:///FILE nor postgresql://"
    )


def _postgres_engine(url: URL) -> Engine:
    return create_engine(
        url,
        pool_size=_THREADS,
        max_overflow=2,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={"connect_timeout": 5},
    )


def _sqlite_engine(url: URL, busy_timeout_ms: int) -> Engine:
    engine = create_engine(url, pool_size=_THREADS, max_overflow=2, pool_timeout=10)

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN loses updates
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: what was acknowledged survives a power cut, not only a killed process.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(_IMMEDIATE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


@contextmanager
def refusing() -> Iterator[None]:
    """Turns the driver's errors into refusals."""
    try:
        yield
    except PoolTimeoutError:
        raise DatabaseBusy("no database connection is free", retry_delay_seconds=1.0) from None
    except (OperationalError, InterfaceError) as error:
        raise _refusal(error) from error


def _refusal(error: DBAPIError) -> Refusal:
    cause = error.orig
    code = getattr(cause, "sqlite_errorcode", None)
    state = getattr(cause, "sqlstate", None)
    if (code is not None and code & 0xFF == sqlite3.SQLITE_FULL) or state == "53100":
        return StorageFull("the database's disk is full")
    if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusy("the database is locked", retry_delay_seconds=1.0)
    # 40001 serialization failure, 40P01 deadlock, 55P03 lock not available.
    if state in ("40001", "40P01", "55P03"):
        return DatabaseBusy("the database is busy", retry_delay_seconds=0.1)
    return DatabaseUnavailable("the database cannot be reached", retry_delay_seconds=2.0)
