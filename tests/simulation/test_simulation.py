"""The seeded simulation as a test: schedules hold, replay exactly, and find planted mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.simulation.campaign import run_seed, run_seeds
from tests.simulation.history import Event
from tests.simulation.invariants import INVARIANTS, check
from tests.simulation.planted import PLANTED, SEEDS_MAX, seeds_to_find

_ROOT = Path(__file__).resolve().parents[2]
_PARTS = 10
_SEEDS_IN_A_PART = 20


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """The simulation silences production's log lines."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("part", range(_PARTS))
def test_schedules_with_faults_break_no_invariant(part: int) -> None:
    first = 1 + part * _SEEDS_IN_A_PART
    seeds = range(first, first + _SEEDS_IN_A_PART)

    tally = run_seeds(seeds)

    assert not tally.violations, "\n".join(tally.violations)
    assert tally.schedules == _SEEDS_IN_A_PART
    assert len(tally.faults) > 15, "these schedules were too easy"


def test_a_seed_gives_the_same_history_again() -> None:
    once = run_seed(8)

    again = run_seed(8)

    assert again.history.events == once.history.events
    assert again.history.digest() == once.history.digest()


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_replays_in_another_process_whatever_its_hash_seed(hash_seed: str) -> None:
    here = run_seed(19).history.digest()
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.simulation", "--seed", "19"]

    told = subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert here in told.stdout


def test_another_seed_gives_another_history() -> None:
    one = run_seed(8)

    other = run_seed(9)

    assert one.history.digest() != other.history.digest()


@pytest.mark.parametrize("mistake", sorted(PLANTED))
def test_a_planted_mistake_is_found(mistake: str) -> None:
    seeds = range(1, 1 + SEEDS_MAX)

    found = seeds_to_find(PLANTED[mistake], seeds)

    assert found is not None, f"{mistake}: not found within {SEEDS_MAX} seeds"
    print(f"{mistake}: found after {found[0]} seeds by {found[1]}")


_STARTED = Event(1.0, "tree_started", "j", 1, "t1", value=10, note="0")
_BROKEN = {
    "acknowledged_jobs_stay": [Event(1.0, "acknowledged", "j", note="r")],
    "one_job_for_one_request": [
        Event(1.0, "acknowledged", "j", note="r"),
        Event(2.0, "acknowledged", "k", note="r"),
    ],
    "moves_are_in_the_table": [
        Event(1.0, "committed", "j", source="JOB_STATE_HELD", state="JOB_STATE_PUBLISHING")
    ],
    "terminal_states_never_change": [
        Event(1.0, "committed", "j", state="JOB_STATE_FAILED"),
        Event(2.0, "committed", "j", state="JOB_STATE_QUEUED", source="JOB_STATE_FAILED"),
    ],
    "attempts_only_grow": [
        Event(1.0, "committed", "j", 2, state="JOB_STATE_STARTING"),
    ],
    "one_attempt_publishes": [Event(1.0, "published", "j", 1, note="out/1")],
    "success_means_published": [Event(1.0, "committed", "j", 1, state="JOB_STATE_SUCCEEDED")],
    "absence_stops_no_run": [_STARTED, Event(2.0, "stop_written", "j", 1, "t1", note="FENCE")],
    "attempts_grow_on_each_host": [
        Event(0.0, "host", place="t1", value=2),
        Event(1.0, "tree_started", "j", 2, "t1", value=20),
        Event(2.0, "tree_started", "j", 1, "t1", value=30),
    ],
    "no_two_runs_share_a_slot": [
        Event(0.0, "host", place="t1", note="0"),
        _STARTED,
        Event(2.0, "tree_started", "k", 1, "t1", value=20, note="0"),
    ],
    "stopped_means_gone": [
        _STARTED,
        Event(2.0, "committed", "j", 1, state="JOB_STATE_PAUSED", source="JOB_STATE_PAUSING"),
    ],
    "the_older_goes_first": [
        Event(1.0, "created", "j", note="2026-01-01T00:00:01 any"),
        Event(1.0, "committed", "j", state="JOB_STATE_QUEUED"),
        Event(2.0, "created", "k", note="2026-01-01T00:00:02 any"),
        Event(2.0, "committed", "k", state="JOB_STATE_QUEUED"),
        Event(3.0, "committed", "k", 1, state="JOB_STATE_STARTING", source="JOB_STATE_QUEUED"),
    ],
    "cancelled_was_not_overwritten": [
        Event(1.0, "steered", "j", state="JOB_STATE_CANCELLED", note="CancelJob"),
        Event(9.0, "final_job", "j", state="JOB_STATE_SUCCEEDED", note="ended"),
    ],
    "every_job_ends": [Event(9.0, "final_job", "j", state="JOB_STATE_RUNNING", note="goes on")],
    "no_slot_leaks": [Event(9.0, "final_slot", "j", 1, "t1")],
    "no_old_run_lives_on": [Event(9.0, "final_tree", "j", 1, "t1")],
    "every_trainer_is_heard": [
        Event(9.0, "final_trainer", place="t1", state="TRAINER_STATE_SUSPECT")
    ],
    "sequences_have_no_gap": [Event(1.0, "delivered", "j", place="s", value=2)],
    "all_subscribers_see_the_same": [
        Event(1.0, "delivered", "j", place="s", value=1, note="one"),
        Event(2.0, "delivered", "j", place="t", value=1, note="other"),
    ],
    "subscribers_get_everything": [
        Event(1.0, "subscribed", "j", place="s"),
        Event(9.0, "stored", "j", value=1, source="scheduler"),
    ],
    "the_feed_is_whole": [Event(9.0, "feed", "j", note="state JOB_STATE_QUEUED")],
    "removed_jobs_were_told": [Event(9.0, "removed", "j")],
    "no_line_is_lost_or_doubled": [Event(9.0, "line", "j", 1, note="metrics 1 line 2")],
    "the_end_comes_last": [
        Event(9.0, "end_was_reported", "j", 1),
        Event(9.0, "stored", "j", 1, value=1, note="state JOB_STATE_SUCCEEDED"),
        Event(9.0, "stored", "j", 1, value=2, note="metrics 1 line 2"),
    ],
    "production_makes_no_mistake": [Event(9.0, "problem", note="ValueError()")],
}


@pytest.mark.parametrize("invariant", [one.__name__ for one in INVARIANTS])
def test_each_invariant_can_be_broken(invariant: str) -> None:
    history = _BROKEN[invariant]

    violations = check(history)

    assert invariant in {one.invariant for one in violations}
