"""Row 5: the scheduler is away for longer than any of its windows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import Installation, installation_at
from tests.faults.nothing_lost import check_nothing_lost, steps
from tests.support.alive import is_running
from tests.support.eventually import eventually_sync

# Longer than a connection takes to be tried again (5 s), as in production.
LOST_SECONDS = 6.0
AGREEMENT_SECONDS = 30.0


@pytest.fixture
def losing(tmp_path: Path) -> Iterator[Installation]:
    """A trainer is LOST after six seconds of silence."""
    flags = ["--suspect-seconds", "2", "--lost-seconds", str(LOST_SECONDS)]
    with installation_at(tmp_path, trainers=(), scheduler_flags=flags) as made:
        yield made


def test_05_no_child_is_touched_while_the_scheduler_is_down(losing: Installation) -> None:
    losing.add_trainers("a", flags=["--cpu-slots", "2"])
    go = losing.root / "go"
    runs_on = losing.submit(["entries_until", str(go)], ["complete"], output_dir="long")
    ends = losing.submit(["entries_until", str(go)], ["complete"], output_dir="short")
    children = [losing.await_child("a", job) for job in (runs_on, ends)]
    seen = losing.await_steps("a", runs_on, 2)
    losing.await_steps("a", ends, 2)

    losing.scheduler.kill()
    away_since = time.monotonic()
    losing.await_steps("a", runs_on, seen + 10)
    eventually_sync(lambda: time.monotonic() - away_since > LOST_SECONDS, 10, "it is away")
    assert [is_running(pid) for pid in children] == [True, True]
    losing.scheduler.start()
    back_since = time.monotonic()
    losing.await_trainer("a", "READY")
    assert {runs_on.refresh().state, ends.refresh().state} == {"RUNNING"}
    assert time.monotonic() - back_since < AGREEMENT_SECONDS
    go.touch()

    for job in (runs_on, ends):
        taken = steps(check_nothing_lost(losing, job))
        assert taken == list(range(1, len(taken) + 1))


def test_05_a_run_that_ends_meanwhile_is_published_after_its_return(
    losing: Installation,
) -> None:
    losing.add_trainers("a", flags=["--cpu-slots", "2"])
    go = losing.root / "go"
    good = losing.submit(["entries", 2], ["wait_for", str(go)], ["complete"], output_dir="good")
    bad = losing.submit(
        ["entries", 2],
        ["wait_for", str(go)],
        ["fail", "FAILURE_CAUSE_DIVERGED", "loss is NaN"],
        output_dir="bad",
    )
    for job in (good, bad):
        losing.await_state(job, "RUNNING")
        losing.await_steps("a", job, 2)

    losing.scheduler.kill()
    go.touch()
    for job in (good, bad):
        losing.await_file("a", job, "end.json")
    assert not (losing.outputs / "good").exists()
    losing.scheduler.start()

    check_nothing_lost(losing, good)
    check_nothing_lost(losing, bad, "FAILED")
