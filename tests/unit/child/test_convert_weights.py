"""Weights in pickles become safetensors, by the command that the refusal names."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_models import write_tiny_model
from tests.unit.child.launching import call_warm, launch
from tests.unit.child.run_folders import make_run_folder

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]
VOCABULARY = 800


def pickled(model: str, shards: int) -> None:
    """Puts pickles in the place of a model's safetensors. lm_head and embeddings share memory,
    as they do in what `save_pretrained` of former versions left."""
    import torch
    from safetensors.torch import load_file

    folder = Path(model)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    weights["model.norm.weight"] = torch.stack([weights["model.norm.weight"]] * 2, dim=1)[:, 0]
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(weights, folder / "pytorch_model.bin")
        return
    names = sorted(weights)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"pytorch_model-{shard + 1:05d}-of-{shards:05d}.bin"
        mine = names[shard::shards]
        torch.save({name: weights[name] for name in mine}, folder / file)
        weight_map |= dict.fromkeys(mine, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def weights_of(folder: str) -> dict[str, Any]:
    """Every weight of the model that transformers loads, as lists."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    return {name: value.tolist() for name, value in model.state_dict().items()}


def convert(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trainer_svc.child.convert_weights", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(("shards", "more"), [(1, []), (3, ["--shard-bytes", "150000"])])
def test_the_converted_model_is_the_same_model_and_trains(
    assets: Path, tmp_path: Path, shards: int, more: list[str]
) -> None:
    model = tmp_path / "model"
    call_warm(write_tiny_model, "qwen3", str(model), VOCABULARY, str(assets / "model"))
    before = call_warm(weights_of, str(model))
    call_warm(pickled, str(model), shards)
    refused = make_run_folder(tmp_path / "a", model, assets / "train.jsonl")
    assert launch(refused).wait() == 1

    command = refused.result["failure"]["hint"].split("`")[1]
    converted = subprocess.run(
        [*command.split(), *more], capture_output=True, text=True, check=False, timeout=120
    )

    assert converted.returncode == 0, converted.stderr
    new = tmp_path / "model-safetensors"
    files = sorted(path.name for path in new.iterdir())
    assert ("model.safetensors.index.json" in files) == (shards > 1)
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= set(files)
    assert not [name for name in files if ".bin" in name]
    assert call_warm(weights_of, str(new)) == before
    run = make_run_folder(tmp_path / "b", new, assets / "train.jsonl", max_steps="2")
    assert launch(run).wait() == 0, run.result
    # The refusal came before any row was read.
    assert refused.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"
    assert refused.event_types() == ["FAILED"]


class Harmful:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def save(value: Any, path: str) -> None:
    import torch

    torch.save(value, path)


def save_harm(harm: str, path: str) -> None:
    save({"w": Harmful(harm)}, path)


def test_a_pickle_with_code_runs_nothing_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    harm = tmp_path / "harm"
    call_warm(save_harm, str(harm), str(tmp_path / "model/pytorch_model.bin"))

    done = convert(str(tmp_path / "model"))

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "cannot be loaded as tensors alone" in done.stderr
    assert not harm.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": {"w": 1}}, "holds 'model', which is not a tensor"),
        ([1], "holds no tensors by name"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    call_warm(save, value, str(tmp_path / "pytorch_model.bin"))

    done = convert(str(tmp_path), "--out", str(tmp_path / "new"))

    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "it has no config.json"),
        ({"config.json": "{}"}, "has neither pytorch_model.bin nor pytorch_model.bin.index.json"),
        (
            {"config.json": "{}", "pytorch_model.bin.index.json": '{"weight_map": {"a": "../x"}}'},
            "does not map tensors to files of the same folder",
        ),
        (
            {"config.json": "{}", "pytorch_model.bin.index.json": '{"weight_map": {"a": "x"}}'},
            "names files that are missing: x",
        ),
        ({"config.json": "{}", "pytorch_model.bin": "junk"}, "cannot be loaded as tensors alone"),
    ],
)
def test_a_folder_that_cannot_be_converted_is_refused(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)

    done = convert(str(tmp_path), "--out", str(tmp_path / "new"))

    assert done.returncode == 1
    assert message in done.stderr


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "new").mkdir()

    done = convert(str(tmp_path), "--out", str(tmp_path / "new"))

    assert done.returncode == 1
    assert "is there already" in done.stderr
