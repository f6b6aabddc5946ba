"""Row 10: the child ends while its trainer service is away."""

from __future__ import annotations

from tunewright.v1 import job_pb2

from tests.faults.harness import Installation, kill_tree
from tests.faults.nothing_lost import check_nothing_lost, events, moves, steps


def test_10_a_good_end_is_read_from_exit_json_and_published(installation: Installation) -> None:
    go = installation.root / "go"
    job = installation.submit(["entries", 2], ["wait_for", str(go)], ["complete"])
    installation.await_steps("a", job, 2)
    installation.await_state(job, "RUNNING")
    installation.trainers["a"].kill()
    go.touch()
    ended = installation.await_file("a", job, "exit.json")

    installation.trainers["a"].start()

    entries = check_nothing_lost(installation, job)
    assert ended["exit_code"] == 0
    assert steps(entries) == [1, 2]


def test_10_a_failure_is_read_from_exit_json(installation: Installation) -> None:
    go = installation.root / "go"
    fail = ["fail", "FAILURE_CAUSE_DIVERGED", "loss is NaN"]
    job = installation.submit(["entries", 2], ["wait_for", str(go)], fail, ["exit", 1])
    installation.await_steps("a", job, 2)
    installation.await_state(job, "RUNNING")
    installation.trainers["a"].kill()
    go.touch()
    installation.await_file("a", job, "exit.json")

    installation.trainers["a"].start()

    entries = check_nothing_lost(installation, job, "FAILED")
    assert job.failure is not None
    assert job.failure.cause == job_pb2.FAILURE_CAUSE_DIVERGED
    assert events(entries).count("RUN_FAILED") == 1


def test_10_without_exit_json_it_crashed_and_is_retried(installation: Installation) -> None:
    go = installation.root / "go"
    job = installation.submit(["entries", 2], ["wait_for", str(go)], ["complete"])
    installation.await_steps("a", job, 2)
    installation.await_state(job, "RUNNING")
    installation.trainers["a"].kill()
    kill_tree(installation, "a", job)
    go.touch()
    assert not installation.file("a", job, "exit.json")

    installation.trainers["a"].start()

    entries = check_nothing_lost(installation, job, attempts=2)
    told = [one.state_change.failure.cause for one in entries if one.HasField("state_change")]
    assert told.count(job_pb2.FAILURE_CAUSE_CRASHED) == 1
    assert moves(entries).count("RECOVERING") == 1
    assert (steps(entries, 1), steps(entries, 2)) == ([1, 2], [1, 2])
