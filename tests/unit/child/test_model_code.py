"""A model that brings code: it does not run, unless an administrator allowed that model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.unit.child.launching import launch
from tests.unit.child.run_folders import RunFolder, make_run_folder

pytestmark = pytest.mark.training

CODE = """
from pathlib import Path
from transformers import Qwen3Config, Qwen3ForCausalLM

Path({canary!r}).write_text("this code ran")


class CanaryConfig(Qwen3Config):
    model_type = "canary"


class CanaryModel(Qwen3ForCausalLM):
    config_class = CanaryConfig
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """The file that the model's code writes when it runs."""
    return tmp_path / "canary"


@pytest.fixture
def model(tmp_path: Path, assets: Path, canary: Path) -> Path:
    """The tiny model, with code of its own."""
    folder = tmp_path / "model"
    shutil.copytree(assets / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "canary",
        "architectures": ["CanaryModel"],
        "auto_map": {
            "AutoConfig": "bringing_code.CanaryConfig",
            "AutoModelForCausalLM": "bringing_code.CanaryModel",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "bringing_code.py").write_text(CODE.format(canary=str(canary)))
    return folder


def run_with(tmp_path: Path, model: Path, assets: Path, trusted: bool) -> RunFolder:
    folder = make_run_folder(tmp_path / "job", model, assets / "train.jsonl", max_steps=1)
    spec = json.loads((folder.path / "spec.json").read_text())
    spec["trust_remote_code"] = trusted
    (folder.path / "spec.json").write_text(json.dumps(spec))
    launch(folder).wait()
    return folder


def test_it_fails_and_its_code_does_not_run(
    tmp_path: Path, model: Path, assets: Path, canary: Path
) -> None:
    folder = run_with(tmp_path, model, assets, trusted=False)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"
    assert not canary.exists()


def test_one_that_an_administrator_allowed_is_trained(
    tmp_path: Path, model: Path, assets: Path, canary: Path
) -> None:
    folder = run_with(tmp_path, model, assets, trusted=True)

    assert folder.result["outcome"] == "COMPLETED", folder.result
    assert canary.read_text() == "this code ran"
