"""What tests of the training process share: a tiny model, dialogues, one finished run."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.child.launching import launch
from tests.unit.child.run_folders import RunFolder, make_run_folder
from trainer_svc.child import demo_assets


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, train.jsonl and eval.jsonl."""
    folder = tmp_path_factory.mktemp("assets")
    assert demo_assets.main(["--out", str(folder), "--dialogues", "64"]) == 0
    return folder


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a chat template without generation marks."""
    folder = tmp_path_factory.mktemp("plain")
    arguments = ["--out", str(folder), "--dialogues", "64", "--no-generation-marks"]
    assert demo_assets.main(arguments) == 0
    return folder / "model"


@pytest.fixture(scope="session")
def vlm_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a vision-language model/, train.jsonl and eval.jsonl, and their pictures."""
    folder = tmp_path_factory.mktemp("vlm")
    assert demo_assets.main(["--kind", "vlm", "--out", str(folder), "--dialogues", "64"]) == 0
    return folder


@pytest.fixture(scope="session")
def plain_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with a chat template without generation marks."""
    folder = tmp_path_factory.mktemp("plain-vlm")
    arguments = ["--kind", "vlm", "--out", str(folder), "--dialogues", "64"]
    assert demo_assets.main([*arguments, "--no-generation-marks"]) == 0
    return folder / "model"


# 16 steps in two epochs, dropout on, evaluation at each epoch's end.
WHOLE: dict[str, Any] = {
    "num_train_epochs": 2.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.1,
    "save_steps": 6,
    "logging_steps": 1,
    "bf16": False,
}


@pytest.fixture(scope="session")
def whole_run(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of 16 steps that nothing interrupted. Read it, do not write to it."""
    root = tmp_path_factory.mktemp("whole")
    folder = make_run_folder(
        root,
        assets / "model",
        assets / "train.jsonl",
        evaluation=assets / "eval.jsonl",
        **WHOLE,
    )
    process = launch(folder)
    assert process.wait() == 0, process.output()
    return folder
