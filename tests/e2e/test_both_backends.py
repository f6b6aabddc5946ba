"""One job contract, two backends: the same story for QLoRA and for ms-swift."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from tunewright import Client
from tunewright.jobs import Job
from tunewright.v1 import job_pb2

from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.stack import Stack, running_stack
from tests.support.stopping import FIRST_STEP_SECONDS, last_step, let_go_on, stop_processes
from tests.support.swift import swift_python
from tests.support.watched import Watched, processes_of, run_of, states

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

STEPS = 100
SAVE_STEPS = 10
TRAINING = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "save_steps": SAVE_STEPS,
    "save_total_limit": 3,
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "max_length": 128,
}
# Long enough to be stopped in the middle, however late the stop comes.
ENDLESS = {**TRAINING, "max_steps": 50_000, "save_steps": 1_000, "logging_steps": 5}


@dataclass(frozen=True)
class Backend:
    """A backend: what a job says to get it, and by what its training process is known."""

    name: str
    arguments: dict[str, Any]
    command: str


QLORA = Backend("qlora", {}, "trainer_svc.child.qlora")
SWIFT = Backend(
    "swift",
    {"backend": "swift", "swift": {"model_type": "qwen3", "template": "qwen3"}},
    "swift/cli/sft.py",
)


@pytest.fixture(params=[QLORA, SWIFT], ids=lambda one: one.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each of the two."""
    found: Backend = request.param
    return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, assets: Assets) -> Iterator[Stack]:
    """Two places, both backends, and a scheduler that loses no time between attempts."""
    root = tmp_path_factory.mktemp("both")
    with running_stack(
        root,
        roots=[assets.folder],
        scheduler_flags=["--upkeep-tick-seconds", "0.2", "--heartbeat-interval-seconds", "1"],
        trainer_flags=["--cpu-slots", "2", "--swift-python", str(swift_python())],
    ) as running:
        yield running


def create(
    stack: Stack, client: Client, assets: Assets, backend: Backend, folder: str, **more: Any
) -> Watched:
    """A job on the tiny model; its output folder tells the backend too."""
    wanted = {
        "model": assets.model,
        "train_data": [assets.train],
        "output_dir": f"{folder}-{backend.name}",
        "accelerator": "cpu",
        "hyperparameters": TRAINING,
        "retry_backoff": 0.1,
        **backend.arguments,
        **more,
    }
    return Watched(client.jobs.create(**wanted), stack.address)


def training_process(job: Job, backend: Backend) -> int:
    """The process that computes: the lowest of those that run the backend's program."""
    found = []
    for pid in processes_of(job):
        with psutil.Process(pid).oneshot():
            process = psutil.Process(pid)
            if any(word.endswith(backend.command) for word in process.cmdline()):
                found.append(process.pid)
    assert found, f"nothing runs {backend.command}"
    return max(found, key=lambda pid: len(psutil.Process(pid).parents()))


def stop_at(run: Path, watched: Watched, backend: Backend, step: int) -> int:
    """Stops the process that computes once a step is logged; its pid."""
    eventually_sync(lambda: last_step(run) >= step, FIRST_STEP_SECONDS, f"step {step}")
    pid = training_process(watched.job, backend)
    stop_processes([pid])
    assert not (run / "result.json").exists(), "it was too quick to be stopped in the middle"
    return pid


def turns(steps: list[int]) -> list[int]:
    """The steps that do not follow the one before: where an attempt went on."""
    return [step for before, step in pairwise(steps) if step != before + 1]


def test_a_job_is_taken_back_paused_and_resumed_and_its_steps_advance(
    stack: Stack, assets: Assets, backend: Backend
) -> None:
    with Client(stack.address) as client:
        watched = create(stack, client, assets, backend, "paused")
        run = run_of(stack, watched.job, 1)

        adopted = stop_at(run, watched, backend, 3)
        stack.trainers["a"].kill()
        stack.trainers["a"].start()
        let_go_on([adopted])
        assert stop_at(run, watched, backend, 12) == adopted, "taken back, not started again"
        watched.job.pause()
        eventually_sync((run / "stop.json").exists, 60, "the order to stop")
        let_go_on([adopted])
        watched.until_state("PAUSED")
        left = processes_of(watched.job)
        watched.job.resume()
        watched.until_end()

        assert left == []
        assert watched.job.state == "SUCCEEDED", watched.job.failure
        assert watched.job.attempt == 2
        assert states(watched.entries).count("PAUSED") == 1
        steps = watched.steps()
        assert steps == [*range(1, STEPS + 1)], "a pause saves: no step is lost or done again"
        resumed = next(one for one in watched.entries if one.event.type == "RESUMED")
        assert int(resumed.event.details["step"]) >= 12
        assert (stack.outputs / f"paused-{backend.name}" / "adapter_model.safetensors").is_file()


def test_a_killed_training_process_is_named_and_its_retry_goes_on(
    stack: Stack, assets: Assets, backend: Backend
) -> None:
    with Client(stack.address) as client:
        watched = create(stack, client, assets, backend, "killed")
        run = run_of(stack, watched.job, 1)

        os.kill(stop_at(run, watched, backend, 15), signal.SIGKILL)
        watched.until_end()

        first = watched.job.proto.attempts[0]
        assert first.failure.cause == job_pb2.FAILURE_CAUSE_CRASHED, first.failure
        assert "SIGKILL" in first.failure.message
        assert "checkpoint" in first.failure.hint
        assert watched.job.state == "SUCCEEDED", watched.job.failure
        assert watched.job.attempt == 2
        steps = watched.steps()
        resumed = next(one for one in watched.entries if one.event.type == "RESUMED")
        saved = int(resumed.event.details["step"])
        assert saved >= SAVE_STEPS
        assert turns(steps) == [saved + 1], "it goes on after the last checkpoint"
        assert steps[-1] == STEPS


@pytest.mark.parametrize("cancelled", [QLORA, SWIFT], ids=lambda one: one.name)
def test_of_two_jobs_at_once_one_is_cancelled_and_the_other_succeeds(
    stack: Stack, assets: Assets, cancelled: Backend
) -> None:
    other = SWIFT if cancelled is QLORA else QLORA
    with Client(stack.address) as client:
        doomed = create(stack, client, assets, cancelled, "doomed", hyperparameters=ENDLESS)
        going_on = create(stack, client, assets, other, "going-on")
        run, other_run = run_of(stack, doomed.job, 1), run_of(stack, going_on.job, 1)
        eventually_sync(lambda: last_step(run) >= 5, FIRST_STEP_SECONDS, "it trains")
        eventually_sync(other_run.exists, 30, "the other one runs at the same time")

        doomed.job.cancel()
        doomed.until_end()
        left = processes_of(doomed.job)
        going_on.until_end()

        assert doomed.job.state == "CANCELLED"
        assert left == []
        assert not (stack.outputs / f"doomed-{cancelled.name}").exists()
        assert going_on.job.state == "SUCCEEDED", going_on.job.failure
        assert going_on.steps() == [*range(1, STEPS + 1)]


def test_a_job_past_its_run_timeout_fails_and_a_retry_is_a_new_job(
    stack: Stack, assets: Assets, backend: Backend
) -> None:
    with Client(stack.address) as client:
        watched = create(
            stack, client, assets, backend, "late", hyperparameters=ENDLESS, run_timeout=6.0
        )
        late = watched.until_end()

        retried = late.retry()

        assert late.state == "FAILED"
        assert late.failure is not None
        assert late.failure.cause == job_pb2.FAILURE_CAUSE_RUN_TIMEOUT
        assert late.attempt == 1
        assert processes_of(late) == []
        assert retried.proto.retry_of == late.name
        assert retried.spec.backend == late.spec.backend
        retried.cancel().wait(timeout=60)
