"""Row 47: two transactions on PostgreSQL commit in another order than they began."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from tunewright.jobs import Job
from tunewright.wire.status import rich_error

from scheduler_svc.storage.sql_store import SqlStore, SqlWriting
from svckit.database import Database
from tests.faults.harness import (
    MONITOR_FLAGS,
    PATIENCE_SECONDS,
    SCHEDULER_FLAGS,
    Installation,
)
from tests.faults.nothing_lost import stored_entries
from tests.support.eventually import eventually_sync
from tests.support.stack import ServiceProcess
from tests.unit.monitor.made_entries import event


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_database: str) -> Iterator[Installation]:
    """Scheduler and monitor; the scheduler's record is in PostgreSQL."""
    scheduler = ServiceProcess("scheduler_svc", SCHEDULER_FLAGS, tmp_path / "scheduler")
    scheduler.start(TUNEWRIGHT_SCHEDULER_DATABASE_URL=postgres_database)
    url = f"sqlite:///{tmp_path / 'monitor.db'}"
    arguments = ["--database-url", url, "--scheduler", scheduler.address, *MONITOR_FLAGS]
    monitor = ServiceProcess("monitor_svc", arguments, tmp_path / "monitor")
    made = Installation(tmp_path, scheduler, monitor)
    try:
        monitor.start()
        yield made
    finally:
        made.stop()


@dataclass
class HeldOpen:
    """A transaction in a thread of its own, as another scheduler process would make it."""

    store: SqlStore
    job: Job
    kind: str
    numbered: bool
    has_written: threading.Event = field(default_factory=threading.Event)
    may_commit: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with self.store.write() as tx:
            self._write(tx)
            self.has_written.set()
            assert self.may_commit.wait(PATIENCE_SECONDS)

    def _write(self, tx: SqlWriting) -> None:
        entry = event(self.job.name, self.kind)
        tx.append_entry(self.job.id, entry.SerializeToString())  # type: ignore[arg-type]
        if self.numbered:
            tx.give_positions()


def kinds(installation: Installation, job: Job) -> list[str]:
    """The events of the job that the monitor has, in order."""
    return [one.event.type for one in stored_entries(installation, job) if one.HasField("event")]


@pytest.fixture
def store(on_postgres: Installation, postgres_database: str) -> Iterator[SqlStore]:
    """What another scheduler process would write with."""
    database = Database(postgres_database)
    yield SqlStore(database)
    database.close()


@pytest.fixture
def job(on_postgres: Installation) -> Job:
    """One that nothing happens to by itself; the monitor has heard of it."""
    made = on_postgres.submit(["complete"], hold=True)

    def heard_of() -> bool:
        try:
            return bool(stored_entries(on_postgres, made))
        except grpc.RpcError as error:
            if rich_error(error).code != "NOT_FOUND":
                raise
            return False

    eventually_sync(heard_of, PATIENCE_SECONDS, "its first entry")
    return made


@contextmanager
def held_open(*transactions: HeldOpen) -> Iterator[list[Future[None]]]:
    """Begins them one after the other; all may commit in the end."""
    with ThreadPoolExecutor(len(transactions)) as pool:
        try:
            running = []
            for one in transactions:
                running.append(pool.submit(one.run))
                assert one.has_written.wait(PATIENCE_SECONDS)
            yield running
        finally:
            for one in transactions:
                one.may_commit.set()


def test_47_the_one_that_began_first_commits_last(
    on_postgres: Installation, store: SqlStore, job: Job
) -> None:
    first, second = (HeldOpen(store, job, kind, numbered=False) for kind in ("FIRST", "SECOND"))
    with held_open(first, second) as running:
        second.may_commit.set()
        running[1].result(PATIENCE_SECONDS)
        # The feed has gone past the second while the first is still open.
        eventually_sync(lambda: kinds(on_postgres, job) == ["SECOND"], PATIENCE_SECONDS, "second")
        first.may_commit.set()
        running[0].result(PATIENCE_SECONDS)

    eventually_sync(
        lambda: kinds(on_postgres, job) == ["SECOND", "FIRST"], PATIENCE_SECONDS, "both"
    )


def test_47_one_that_has_its_position_is_not_overtaken_before_it_commits(
    on_postgres: Installation, store: SqlStore, job: Job
) -> None:
    first = HeldOpen(store, job, "FIRST", numbered=True)
    second = HeldOpen(store, job, "SECOND", numbered=False)
    second.may_commit.set()
    with held_open(first, second) as running:
        # The second waits for the first: it is neither done nor in the feed.
        assert on_postgres.client.jobs.get(job.name).state == "HELD"  # reads are not held up
        assert (running[1].done(), kinds(on_postgres, job)) == (False, [])
        first.may_commit.set()
        for one in running:
            one.result(PATIENCE_SECONDS)

    eventually_sync(
        lambda: kinds(on_postgres, job) == ["FIRST", "SECOND"], PATIENCE_SECONDS, "both"
    )
