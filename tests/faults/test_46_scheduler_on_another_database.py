"""Row 46: the scheduler is started on an empty database, or on an older copy of its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tunewright.errors import NotFound
from tunewright.jobs import Job

from tests.faults.harness import PATIENCE_SECONDS, Installation
from tests.faults.nothing_lost import check_nothing_lost, moves, steps, stored_entries
from tests.faults.subscriber import Subscriber
from tests.support.alive import is_running
from tests.support.eventually import eventually_sync

UNKNOWN = "runs that this database does not know"


def copy_database(root: Path, copy: Path) -> None:
    """As a backup does it, while the scheduler writes."""
    with closing(sqlite3.connect(root / "scheduler.db")) as source:
        with closing(sqlite3.connect(copy)) as target:
            source.backup(target)


def remove_database(root: Path) -> None:
    for path in root.glob("scheduler.db*"):
        path.unlink()


def put_back(root: Path, copy: Path) -> None:
    remove_database(root)
    copy.rename(root / "scheduler.db")


def said_to_be_unknown(installation: Installation, job: Job) -> None:
    """Returns once the scheduler's log names the job."""

    def named() -> bool:
        lines = installation.scheduler.log_file.read_text().splitlines()
        return any(UNKNOWN in line and job.name in line for line in lines)

    eventually_sync(named, PATIENCE_SECONDS, f"the log names {job.name}")


def test_46_an_empty_database_stops_no_run(bare: Installation) -> None:
    bare.add_trainers("a", flags=["--cpu-slots", "2"])
    go, kept = bare.root / "go", bare.root / "kept.db"
    job = bare.submit(["entries_until", str(go)], ["entries", 3], ["complete"])
    subscriber = Subscriber(bare.scheduler.address, job.name)
    child = bare.await_child("a", job)
    bare.await_state(job, "RUNNING")

    bare.scheduler.kill()
    copy_database(bare.root, kept)
    remove_database(bare.root)
    bare.scheduler.start()
    said_to_be_unknown(bare, job)
    other = bare.submit(["entries", 2], ["complete"], output_dir="other")
    bare.await_state(other, "SUCCEEDED")
    written = bare.await_steps("a", job, 1)
    bare.await_steps("a", job, written + 5)
    assert is_running(child)
    with pytest.raises(NotFound):
        bare.client.jobs.get(job.name)
    eventually_sync(lambda: len(steps(stored_entries(bare, job))) > written, 30, "goes on")
    eventually_sync(
        lambda: moves(stored_entries(bare, other))[-1:] == ["SUCCEEDED"], 30, "told of the other"
    )

    bare.scheduler.kill()
    put_back(bare.root, kept)
    bare.scheduler.start()
    go.touch()
    entries = check_nothing_lost(bare, job)
    assert bare.file("a", job, "process.json")["child"]["pid"] == child
    taken = steps(entries)
    assert taken == list(range(1, len(taken) + 1))
    assert subscriber.ended() == entries


def test_46_an_older_copy_stops_no_run_and_hides_nothing(bare: Installation) -> None:
    bare.add_trainers("a", flags=["--cpu-slots", "2"])
    go, go_newer, copy = bare.root / "go", bare.root / "newer", bare.root / "copy.db"
    job = bare.submit(["entries_until", str(go)], ["complete"])
    subscriber = Subscriber(bare.scheduler.address, job.name)
    bare.await_state(job, "RUNNING")
    copy_database(bare.root, copy)
    # From here on all is forgotten: a job, other starts of the scheduler, many events.
    newer = bare.submit(["entries_until", str(go_newer)], ["complete"], output_dir="newer")
    bare.await_state(newer, "RUNNING")
    for _ in range(2):
        bare.scheduler.kill()
        bare.scheduler.start()
    for number in range(20):
        job.update(priority=number)
    priority_seen = [one for one in stored_entries(bare, job) if one.HasField("event")]
    eventually_sync(lambda: len(stored_entries(bare, job)) > len(priority_seen), 30, "stored")

    bare.scheduler.kill()
    put_back(bare.root, copy)
    bare.scheduler.start()
    said_to_be_unknown(bare, newer)
    for one in (job, newer):
        child = bare.file("a", one, "process.json")["child"]["pid"]
        written = bare.await_steps("a", one, 1)
        bare.await_steps("a", one, written + 5)
        assert is_running(child)
    go_newer.touch()
    eventually_sync(lambda: bare.file("a", newer, "exit.json"), 30, "the newer run ends by itself")
    assert not bare.file("a", newer, "stop.json")
    go.touch()

    entries = check_nothing_lost(bare, job)
    assert moves(entries) == ["QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED"]
    assert subscriber.ended() == entries
    assert not (bare.outputs / "newer").exists(), "nobody granted it"
    assert (bare.outputs / ".staging" / f"{newer.id}-1" / "manifest.json").exists()
