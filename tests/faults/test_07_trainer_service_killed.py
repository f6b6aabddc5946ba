"""Row 7: the trainer service is killed while its child lives."""

from __future__ import annotations

import pytest

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, events, steps
from tests.support.alive import is_running


def test_07_child_outlives_its_trainer_service(installation: Installation) -> None:
    go = installation.root / "go"
    job = installation.submit(["entries_until", str(go)], ["entries", 3], ["complete"])
    child = installation.await_child("a", job)
    seen = installation.await_steps("a", job, 3)

    installation.trainers["a"].kill()
    installation.await_steps("a", job, seen + 5)
    installation.trainers["a"].start()
    assert is_running(child)
    go.touch()

    entries = check_nothing_lost(installation, job)
    assert installation.file("a", job, "process.json")["child"]["pid"] == child
    taken = steps(entries)
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) > seen + 5
    assert events(entries).count("ADOPTED") == 1


@pytest.mark.parametrize("point", ["spec_written", "shim_spawned"])
def test_07_killed_around_the_spawn_it_runs_exactly_one_child(
    bare: Installation, point: str
) -> None:
    trainer = bare.trainer("a")
    trainer.start(**armed(point))
    job = bare.submit(["entries", 2], ["complete"])
    crashes_at(trainer, point)
    trainer.start()

    assert steps(check_nothing_lost(bare, job)) == [1, 2]
