"""Row 36: a trainer is stopped until it is LOST, and then goes on."""

from __future__ import annotations

from tests.faults.attempt_gate import waiting_for
from tests.faults.harness import Installation, start_all
from tests.faults.nothing_lost import check_nothing_lost, events, moves
from tests.support.alive import is_running
from tests.support.eventually import eventually_sync
from tests.support.stopping import let_go_on, stop_processes, stopping, stops_at


def test_36_its_attempt_is_checked_before_it_publishes(losing: Installation) -> None:
    first, second = losing.root / "first", losing.root / "second"
    losing.trainer("a").start(**stopping("before_begin_publish"))
    job = losing.submit(["entries", 3], waiting_for(first, second), ["complete"])
    losing.await_child("a", job)
    losing.add_trainers("b")
    first.touch()
    stops_at(losing.trainers["a"], "before_begin_publish")

    losing.await_trainer("a", "LOST")
    losing.await_child("b", job, attempt=2)
    let_go_on([losing.trainers["a"].pid])
    eventually_sync(
        lambda: losing.file("a", job, "marks.json").get("fenced"), 30, "the old attempt is fenced"
    )
    assert not (losing.outputs / "out").exists()
    second.touch()

    entries = check_nothing_lost(losing, job, attempts=2)
    assert moves(entries).count("PUBLISHING") == 1
    assert events(entries, attempt=1).count("PUBLISHED") == 0
    assert (losing.outputs / ".staging" / f"{job.id}-1").exists(), "kept, unpublished"


def test_36_a_whole_host_that_was_suspended_ends_its_old_run(losing: Installation) -> None:
    first, second = losing.root / "first", losing.root / "second"
    losing.add_trainers("a")
    job = losing.submit(["entries", 3], waiting_for(first, second), ["complete"])
    child = losing.await_child("a", job)
    losing.await_state(job, "RUNNING")
    start_all([losing.trainer("b")])
    shim = losing.file("a", job, "process.json")["shim"]["pid"]
    host = [losing.trainers["a"].pid, shim, child]
    stop_processes(host)

    losing.await_trainer("a", "LOST")
    losing.await_child("b", job, attempt=2)
    first.touch()  # the old child would finish, if it were let
    let_go_on(host[:1])
    eventually_sync(lambda: not is_running(child), 30, "the old child is ended")
    assert not (losing.outputs / "out").exists()
    second.touch()

    entries = check_nothing_lost(losing, job, attempts=2)
    assert moves(entries).count("PUBLISHING") == 1
