"""Row 11: trainer and child are both killed, and the host stays away."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.jobs import Job
from tunewright.v1 import feed_pb2

from tests.faults.harness import Installation, kill_tree, training
from tests.faults.nothing_lost import check_nothing_lost, events, moves, steps


def test_11_resumes_on_another_host_from_the_artifact_store(losing: Installation) -> None:
    job = _lose_first_host(losing, shared_artifacts=True)
    bad = losing.root / "artifacts/jobs" / job.id / "checkpoints/00000006"
    (bad / "adapter_model.safetensors").write_bytes(b"weights at ?")

    losing.add_trainers("b")

    entries = check_nothing_lost(losing, job, attempts=2, away=["a"])
    assert steps(entries, 1) == [1, 2, 3, 4, 5, 6, 7]
    assert steps(entries, 2) == [5, 6, 7, 8, 9, 10]
    assert events(entries, 2)[:2] == ["CHECKPOINT_INVALID", "RESUMED"]
    _check_lost_once(entries)


def test_11_starts_over_without_a_shared_store_and_says_so(losing: Installation) -> None:
    job = _lose_first_host(losing, shared_artifacts=False)

    losing.add_trainers("b", shared_artifacts=False)

    entries = check_nothing_lost(losing, job, attempts=2, away=["a"])
    assert steps(entries, 1) == [1, 2, 3, 4, 5, 6, 7]
    assert steps(entries, 2) == list(range(1, 11))
    assert events(entries, 2)[0] == "STARTING_OVER"
    _check_lost_once(entries)


def _lose_first_host(losing: Installation, *, shared_artifacts: bool) -> Job:
    """A job that stood at step 7, with checkpoints at 2, 4 and 6, on a host that is gone."""
    losing.add_trainers("a", shared_artifacts=shared_artifacts)
    never = losing.root / "never-there-on-a"
    plan = training(steps=10, save_every=2, hold=str(never), hold_at_step=7)
    job = losing.submit(plan, ["complete"])
    losing.await_steps("a", job, 7)
    losing.await_state(job, "RUNNING")
    losing.await_fed(job, 7)
    losing.trainers["a"].kill()
    kill_tree(losing, "a", job)
    never.touch()
    losing.await_trainer("a", "LOST")
    return job


def _check_lost_once(entries: Sequence[feed_pb2.Entry]) -> None:
    assert moves(entries) == [
        "QUEUED", "STARTING", "RUNNING", "RECOVERING",
        "QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED",
    ]  # fmt: skip
    trainers = [one.state_change.trainer for one in entries if one.state_change.trainer]
    assert sorted(set(trainers)) == ["trainers/a", "trainers/b"]
