"""Row 8: the trainer service is killed, its child lives, and the attempt is given away."""

from __future__ import annotations

import time

from tests.faults.harness import PATIENCE_SECONDS, Installation
from tests.faults.nothing_lost import await_whole_run, check_nothing_lost, moves, steps
from tests.support.alive import is_running


def test_08_old_tree_ends_before_new_work(losing: Installation) -> None:
    go = losing.root / "go"
    losing.add_trainers("a", flags=["--cpu-slots", "2"])
    job = losing.submit(["on_term", "ignore"], ["entries", 2], ["wait_for", str(go)], ["complete"])
    old = losing.await_child("a", job)
    losing.await_steps("a", job, 2)
    losing.await_state(job, "RUNNING")
    losing.trainers["a"].kill()
    losing.await_trainer("a", "LOST")
    losing.add_trainers("b")
    losing.await_state(job, "RUNNING", attempt=2)

    back_since = time.monotonic()
    next_job = losing.submit(["entries", 1], ["complete"], output_dir="next", trainer="a")
    losing.trainers["a"].start()
    new = losing.await_child("a", next_job)
    assert not is_running(old)
    assert time.monotonic() - back_since < PATIENCE_SECONDS
    await_whole_run(losing, "a", job)
    go.touch()

    check_nothing_lost(losing, next_job)
    entries = check_nothing_lost(losing, job, attempts=2)
    assert steps(entries, 1) == [1, 2]
    assert steps(entries, 2) == [1, 2]
    assert moves(entries).count("RECOVERING") == 1
    assert losing.file("a", job, "stop.json")["mode"] == "FENCE"
    assert losing.file("a", job, "exit.json")["killed_by_us"] is True
    assert new != old
