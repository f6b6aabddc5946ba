"""Row 1: the scheduler is killed before an assignment commits."""

from __future__ import annotations

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, moves


def test_01_scheduler_killed_before_the_assignment_commits(bare: Installation) -> None:
    job = bare.submit(["entries", 2], ["complete"])
    assert (job.state, job.attempt) == ("QUEUED", 0)
    created = job.proto.create_time

    bare.scheduler.kill()
    bare.scheduler.spawn(**armed("scheduler.dispatch.before"))
    crashes_at(bare.scheduler, "scheduler.dispatch.before")
    bare.scheduler.start()

    job.refresh()
    assert (job.state, job.attempt, job.proto.create_time) == ("QUEUED", 0, created)
    bare.add_trainers("a")
    entries = check_nothing_lost(bare, job)
    assert moves(entries) == ["QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED"]
