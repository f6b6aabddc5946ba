"""A disk fills up while a checkpoint is written: the cause is said, what was saved stays valid."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tunewright import Client
from tunewright.v1 import job_pb2

from tests.support.assets import Assets, make_assets
from tests.support.stack import Stack, running_stack
from tests.support.swift import swift_python
from trainer_svc.child.checkpoints import CheckpointStore

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

# Room for a few checkpoints of the tiny model, not for all of them.
SMALL_DISK_BYTES = 4 * 1024 * 1024
SWIFT = {"backend": "swift", "swift": {"model_type": "qwen3", "template": "qwen3"}}


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """A tiny model and dialogues."""
    return make_assets(tmp_path_factory.mktemp("assets"))


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


@pytest.mark.parametrize("backend", [{}, SWIFT], ids=["qlora", "swift"])
def test_29_the_cause_is_said_and_the_checkpoints_before_stay_valid(
    stack: Stack, assets: Assets, small_disk: Path, backend: dict[str, Any]
) -> None:
    with Client(stack.address) as client:
        job = client.jobs.create(
            model=assets.model,
            train_data=[assets.train],
            output_dir="full",
            accelerator="cpu",
            hyperparameters={"max_steps": 60, "save_steps": 2, "save_total_limit": 30},
            attempts_max=1,
            **backend,
        )

        ended = job.wait(timeout=200).proto

    folder = small_disk / "jobs" / job.id / "checkpoints"
    newest, broken = CheckpointStore(folder, job.name, 2, 2).resume_point()
    assert ended.state == job_pb2.JOB_STATE_FAILED
    assert ended.failure.cause == job_pb2.FAILURE_CAUSE_DISK_FULL, ended.failure
    assert "save_total_limit" in ended.failure.hint
    assert newest is not None
    assert newest.step >= 2
    assert broken == []
    assert not list(folder.glob(".tmp-*")), "the unfinished one is gone"
    assert not (stack.outputs / "full").exists()
