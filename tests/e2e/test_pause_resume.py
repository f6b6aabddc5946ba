"""A QLoRA job that is stopped, killed and brought back is the job that was not disturbed."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tunewright import Client
from tunewright.v1 import job_pb2
from tunewright.v1.feed_pb2 import Entry

from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.stack import Stack, running_stack
from tests.support.stopping import last_step, let_go_on, stop_child_at
from tests.support.watched import Watched, processes_of, run_of, states

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

STEPS = 40
SAVE_STEPS = 5
# Every step is logged, so that each can be held against the same step of the other run.
CURVE = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "save_steps": SAVE_STEPS,
    "save_total_limit": 3,
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "lora_r": 8,
    "lora_dropout": 0.1,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, assets: Assets) -> Iterator[Stack]:
    """Two places, and a scheduler that loses no time between attempts."""
    root = tmp_path_factory.mktemp("pause-resume")
    with running_stack(
        root,
        roots=[assets.folder],
        scheduler_flags=["--upkeep-tick-seconds", "0.2", "--heartbeat-interval-seconds", "1"],
        trainer_flags=["--cpu-slots", "2"],
    ) as running:
        yield running


@dataclass(frozen=True)
class Point:
    """What must not depend on how often a run was interrupted."""

    loss: float
    learning_rate: float
    epoch: float
    tokens: int


def curve(entries: list[Entry]) -> dict[int, Point]:
    """By step; of one that was repeated, the last."""
    return {
        entry.train_metrics.step: Point(
            entry.train_metrics.loss,
            entry.train_metrics.learning_rate,
            entry.train_metrics.epoch,
            entry.train_metrics.tokens,
        )
        for entry in entries
        if entry.WhichOneof("payload") == "train_metrics"
    }


def create(
    stack: Stack, client: Client, assets: Assets, output_dir: str, **more: object
) -> Watched:
    """A job on the tiny model."""
    wanted = {
        "model": assets.model,
        "train_data": [assets.train],
        "output_dir": output_dir,
        "accelerator": "cpu",
        "hyperparameters": CURVE,
        "retry_backoff": 0.1,
        **more,
    }
    return Watched(client.jobs.create(**wanted), stack.address)  # type: ignore[arg-type]


def pause_and_resume(watched: Watched, run: Path, step: int) -> None:
    """Pauses it in the middle: the child stands still until it has been asked to stop."""
    child = stop_child_at(run, step)
    watched.job.pause()
    eventually_sync((run / "stop.json").exists, 60, "the order to stop")
    let_go_on([child])
    watched.until_state("PAUSED")
    assert processes_of(watched.job) == []
    watched.job.resume()


def kill_service_and_restart(stack: Stack, run: Path, step: int) -> None:
    """The child goes on while its service is away."""
    child = stop_child_at(run, step)
    stack.trainers["a"].kill()
    let_go_on([child])
    assert stop_child_at(run, step + 3) == child
    stack.trainers["a"].start()
    let_go_on([child])


def checkpoints_before(entries: list[Entry], event: str) -> list[int]:
    """The checkpoints that were saved before the last event of this type."""
    at = max(place for place, entry in enumerate(entries) if entry.event.type == event)
    return [
        one.checkpoint_saved.step
        for one in entries[:at]
        if one.WhichOneof("payload") == "checkpoint_saved"
    ]


def test_a_disturbed_job_ends_as_the_undisturbed_one(
    stack: Stack, assets: Assets, record_property: Callable[[str, object], None]
) -> None:
    with Client(stack.address) as client:
        calm = create(stack, client, assets, "calm")
        disturbed = create(stack, client, assets, "disturbed")

        pause_and_resume(disturbed, run_of(stack, disturbed.job, 1), 7)
        pause_and_resume(disturbed, run_of(stack, disturbed.job, 2), 14)
        calm.until_end()  # what comes now is not for it
        third = run_of(stack, disturbed.job, 3)
        kill_service_and_restart(stack, third, 21)
        os.kill(stop_child_at(third, 32), signal.SIGKILL)
        disturbed.until_end()

    assert (calm.job.state, disturbed.job.state) == ("SUCCEEDED", "SUCCEEDED")
    assert (calm.job.attempt, disturbed.job.attempt) == (1, 4)
    assert states(disturbed.entries).count("PAUSED") == 2
    assert states(disturbed.entries).count("RECOVERING") == 1
    assert [one.sequence for one in disturbed.entries] == [*range(1, len(disturbed.entries) + 1)]
    assert_no_step_lost_or_repeated(disturbed)
    assert_same_curve(curve(calm.entries), curve(disturbed.entries), record_property)


def assert_no_step_lost_or_repeated(disturbed: Watched) -> None:
    """Only the kill of the child costs steps: those after its last checkpoint."""
    steps = disturbed.steps()
    saved = max(checkpoints_before(disturbed.entries, "RESUMED"))
    turn = next((at for at in range(1, len(steps)) if steps[at] <= steps[at - 1]), len(steps))
    assert steps[:turn] == [*range(1, turn + 1)]
    assert steps[turn:] == [*range(saved + 1, STEPS + 1)]
    assert turn - saved < SAVE_STEPS + 1


def assert_same_curve(
    calm: dict[int, Point], disturbed: dict[int, Point], record: Callable[[str, object], None]
) -> None:
    assert calm.keys() == disturbed.keys() == {*range(1, STEPS + 1)}
    for step in (1, *range(5, STEPS + 1, 5)):
        record(f"step {step}", f"{calm[step].loss:.6f} {disturbed[step].loss:.6f}")
        print(
            f"step {step:4d}: loss {calm[step].loss:.6f} {disturbed[step].loss:.6f}"
            f"  lr {calm[step].learning_rate:.3e} {disturbed[step].learning_rate:.3e}"
            f"  tokens {calm[step].tokens} {disturbed[step].tokens}"
        )
    for step, point in calm.items():
        other = disturbed[step]
        assert other.tokens == point.tokens, step
        assert math.isclose(other.epoch, point.epoch, rel_tol=1e-9), step
        assert math.isclose(other.learning_rate, point.learning_rate, rel_tol=1e-9), step
        # The order in which threads add up differs; nothing else may.
        assert math.isclose(other.loss, point.loss, rel_tol=1e-4), (step, point, other)


def test_a_running_job_that_is_cancelled_leaves_nothing(stack: Stack, assets: Assets) -> None:
    with Client(stack.address) as client:
        watched = create(stack, client, assets, "cancelled", hyperparameters={"max_steps": 5000})
        run = run_of(stack, watched.job, 1)
        eventually_sync(lambda: last_step(run) >= 2, 120, "it trains")
        assert len(processes_of(watched.job)) >= 2, "shim and child"

        watched.job.cancel()
        watched.until_end()

        assert watched.job.state == "CANCELLED"
        assert processes_of(watched.job) == []
        assert states(watched.entries)[-2:] == ["CANCELLING", "CANCELLED"]
        assert not (stack.outputs / "cancelled").exists()
        assert not list((stack.outputs / ".staging").glob(f"{watched.job.id}-*"))


def test_a_job_past_its_run_timeout_fails_and_a_retry_is_a_new_job(
    stack: Stack, assets: Assets
) -> None:
    with Client(stack.address) as client:
        watched = create(
            stack, client, assets, "late", hyperparameters={"max_steps": 5000}, run_timeout=4.0
        )
        late = watched.until_end()

        retried = late.retry(output_dir="late-again")

        assert late.state == "FAILED"
        assert late.failure is not None
        assert late.failure.cause == job_pb2.FAILURE_CAUSE_RUN_TIMEOUT
        assert late.attempt == 1
        assert late.failure.hint
        assert processes_of(late) == []
        assert retried.name != late.name
        assert retried.proto.retry_of == late.name
        assert retried.spec.hyperparameters == late.spec.hyperparameters
        assert client.jobs.get(late.name).state == "FAILED"
        retried.cancel().wait(timeout=60)
