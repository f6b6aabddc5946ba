"""Row 13: a partition that is shorter than the LOST window."""

from __future__ import annotations

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost, moves, steps
from tests.support.alive import is_running


def test_13_the_same_attempt_goes_on(bare: Installation) -> None:
    go = bare.root / "go"
    bare.add_trainers("a", linked=True)
    job = bare.submit(["entries_until", str(go)], ["entries", 3], ["complete"])
    child = bare.await_child("a", job)
    bare.await_state(job, "RUNNING")

    bare.links["a"].cut()
    bare.await_trainer("a", "SUSPECT")
    seen = bare.await_steps("a", job, 1)
    bare.await_steps("a", job, seen + 5)
    assert job.refresh().state == "RUNNING"
    bare.links["a"].heal()
    bare.await_trainer("a", "READY")
    assert is_running(child)
    go.touch()

    entries = check_nothing_lost(bare, job)
    assert moves(entries) == ["QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED"]
    taken = steps(entries)
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) > seen + 5


def test_13_a_run_that_ends_behind_it_is_published_afterwards(bare: Installation) -> None:
    go = bare.root / "go"
    bare.add_trainers("a", linked=True)
    job = bare.submit(["entries", 2], ["wait_for", str(go)], ["complete"])
    bare.await_steps("a", job, 2)
    bare.await_state(job, "RUNNING")

    bare.links["a"].cut()
    go.touch()
    bare.await_file("a", job, "end.json")
    bare.await_trainer("a", "SUSPECT")
    assert not (bare.outputs / "out").exists()
    bare.links["a"].heal()

    assert steps(check_nothing_lost(bare, job)) == [1, 2]
