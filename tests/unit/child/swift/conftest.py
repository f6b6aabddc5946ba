"""What tests of the ms-swift child share: a stand-in's environment, a small model and data."""

import json
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from tests.unit.child.swift.swift_runs import stand_in_environment


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the stand-in for ms-swift."""
    return stand_in_environment(tmp_path_factory.mktemp("swift"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model's; the stand-in loads none."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": numpy.zeros(1)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """64 rows of five words each, two of them learnt."""
    return write_rows(tmp_path / "train.jsonl", ["what is this"] * 64)


def write_rows(path: Path, questions: list[str], answer: str = "a row") -> Path:
    """A data set of one question and one answer to a row."""
    rows = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question in questions
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path
