"""Row 14: a partition longer than the LOST window; the job ran elsewhere; the old host returns."""

from __future__ import annotations

from tests.faults.harness import Installation
from tests.faults.nothing_lost import await_whole_run, check_nothing_lost, moves, steps
from tests.support.alive import is_running


def test_14_old_child_is_ended_and_one_success_remains(losing: Installation) -> None:
    go = losing.root / "go"
    losing.add_trainers("a", linked=True)
    job = losing.submit(["on_term", "ignore"], ["entries", 2], ["wait_for", str(go)], ["complete"])
    old = losing.await_child("a", job)
    losing.await_state(job, "RUNNING")
    losing.await_steps("a", job, 2)

    losing.links["a"].cut()
    losing.await_trainer("a", "LOST")
    losing.add_trainers("b")
    losing.await_state(job, "RUNNING", attempt=2)
    assert is_running(old)
    losing.links["a"].heal()
    losing.await_file("a", job, "exit.json")
    assert not is_running(old)
    await_whole_run(losing, "a", job)
    assert job.refresh().state == "RUNNING"
    go.touch()

    entries = check_nothing_lost(losing, job, attempts=2)
    assert losing.file("a", job, "stop.json")["mode"] == "FENCE"
    assert (losing.run("a", job) / "spool.jsonl").exists()
    assert not losing.file("a", job, "published.json")
    assert (steps(entries, 1), steps(entries, 2)) == ([1, 2], [1, 2])
    assert moves(entries).count("SUCCEEDED") == 1


def test_14_a_result_that_comes_too_late_stays_unpublished(losing: Installation) -> None:
    go, go_on_b = losing.root / "go", losing.root / "go-on-b"
    losing.add_trainers("a", linked=True)
    job = losing.submit(["entries", 2], ["wait_for", str(go)], ["complete"])
    losing.await_steps("a", job, 2)
    losing.await_state(job, "RUNNING")

    losing.links["a"].cut()
    losing.await_trainer("a", "LOST")
    go.touch()
    losing.await_file("a", job, "end.json")
    go.rename(go_on_b)
    losing.add_trainers("b")
    losing.await_state(job, "RUNNING", attempt=2)
    losing.links["a"].heal()
    losing.await_log(losing.trainers["a"], "stale")
    staged = losing.outputs / ".staging" / f"{job.id}-1"
    assert (staged / "manifest.json").exists()
    assert not (losing.outputs / "out").exists()
    losing.await_trainer("a", "READY")
    await_whole_run(losing, "a", job)
    go_on_b.rename(go)

    entries = check_nothing_lost(losing, job, attempts=2)
    assert (steps(entries, 1), steps(entries, 2)) == ([1, 2], [1, 2])
    assert losing.file("a", job, "marks.json")["fenced"] is True
