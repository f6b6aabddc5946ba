"""Row 2: the scheduler is killed after an assignment commits, before the trainer hears."""

from __future__ import annotations

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, moves, steps


def test_02_scheduler_killed_before_the_trainer_hears(installation: Installation) -> None:
    installation.scheduler.kill()
    installation.scheduler.start(**armed("scheduler.dispatch.committed"))
    installation.await_trainer("a", "READY")

    job = installation.submit(["entries", 2], ["complete"])
    crashes_at(installation.scheduler, "scheduler.dispatch.committed")
    assert not installation.run("a", job).exists()
    installation.scheduler.start()

    entries = check_nothing_lost(installation, job)
    assert moves(entries).count("STARTING") == 1
    assert steps(entries) == [1, 2]
    assert [one.name for one in installation.run("a", job).parent.iterdir()] == ["1"]
