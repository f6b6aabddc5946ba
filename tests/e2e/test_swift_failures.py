"""What fails in real ms-swift: the cause and the hint that a user gets."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tunewright import Client
from tunewright.v1 import job_pb2

from svckit.spec import JobSpec
from svckit.swift import SwiftRun, major_of, swift_argv
from tests.support.assets import Assets
from tests.support.stack import Stack, running_stack
from tests.support.swift import swift_python
from trainer_svc.domain.classify import EndFacts, ExitRecord, classify
from trainer_svc.domain.runs import Cause, Failure
from trainer_svc.supervisor.swift_environment import find_swift

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

# Room for two checkpoints of the tiny model, not for all of them.
SMALL_DISK_BYTES = 3 * 1024 * 1024


def failure_of(model: str, data: str, output: Path) -> Failure:
    """What is made of the end of `swift sft` itself, with nothing of ours before it."""
    swift, why = find_swift(swift_python())
    assert swift is not None, why
    spec = JobSpec.from_mapping(
        {
            "backend": "swift",
            "model": {"name": model},
            "train_data": [{"source": data}],
            "swift": {"model_type": "qwen3", "template": "qwen3"},
            "resources": {"accelerator": "cpu"},
            "output_dir": "x",
        }
    )
    argv = swift_argv(spec, SwiftRun(output_dir=str(output)), major_of(swift.version) or 0)
    done = subprocess.run(
        [str(swift.python.with_name("swift")), *argv[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    ended = ExitRecord(done.returncode, None, killed_by_us=False)
    ending = classify(EndFacts(ended, tail=done.stdout))
    assert ending.failure is not None, done.stdout[-2000:]
    return ending.failure


def test_missing_data(assets: Assets, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jsonl")

    failure = failure_of(assets.model, missing, tmp_path / "out")

    assert failure.cause is Cause.DATASET_INVALID, failure
    assert missing in failure.message
    assert failure.hint


def test_an_unknown_model(assets: Assets, tmp_path: Path) -> None:
    missing = str(tmp_path / "no-model")

    failure = failure_of(missing, assets.train, tmp_path / "out")

    assert failure.cause is Cause.MODEL_INVALID, failure
    assert missing in failure.message
    assert failure.hint


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = f"size={SMALL_DISK_BYTES}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this host lets nobody mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def stack(tmp_path: Path, assets: Assets, small_disk: Path) -> Iterator[Stack]:
    """A trainer whose artifact store is on the small disk."""
    flags = ["--artifacts", str(small_disk), "--disk-bytes-free-min", "0"]
    flags += ["--swift-python", str(swift_python())]
    with running_stack(tmp_path, roots=[assets.folder], trainer_flags=flags) as running:
        yield running


def test_a_disk_that_fills_up_at_a_checkpoint(stack: Stack, assets: Assets) -> None:
    with Client(stack.address) as client:
        job = client.jobs.create(
            model=assets.model,
            train_data=[assets.train],
            output_dir="full",
            accelerator="cpu",
            backend="swift",
            swift={"model_type": "qwen3", "template": "qwen3"},
            hyperparameters={"max_steps": 40, "save_steps": 2, "save_total_limit": 20},
            attempts_max=1,
        )

        ended = job.wait(timeout=200).proto

    assert ended.state == job_pb2.JOB_STATE_FAILED
    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_DISK_FULL, ended.failure
    assert "save_total_limit" in ended.failure.hint
    assert not (stack.outputs / "full").exists()
