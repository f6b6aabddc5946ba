"""What fails in real ms-swift: the cause and the hint that a user gets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from svckit.spec import JobSpec
from svckit.swift import SwiftRun, major_of, swift_argv
from tests.support.assets import Assets
from tests.support.swift import swift_python
from trainer_svc.child.swift.environment import STARTUP
from trainer_svc.domain.classify import EndFacts, ExitRecord, classify
from trainer_svc.domain.runs import Cause, Failure
from trainer_svc.supervisor.swift_environment import find_swift

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]


def failure_of(model: str, data: str, output: Path) -> Failure:
    """What is made of the end of `swift sft` itself, prepared as in a run."""
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
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(STARTUP)},
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
