"""Rank-stabilised LoRA, DoRA and NEFTune do what they are named for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.child.asking import Asker
from tests.unit.child.launching import launch
from tests.unit.child.run_folders import RunFolder, make_run_folder

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.close()


def trained(root: Path, assets: Path, **hyperparameters: Any) -> RunFolder:
    """A run of three steps without dropout, so that nothing but the variant can differ."""
    folder = make_run_folder(
        root,
        assets / "model",
        assets / "train.jsonl",
        **{
            "max_steps": "3",
            "logging_steps": 1,
            "lora_dropout": 0.0,
            "bf16": False,
            **hyperparameters,
        },
    )
    assert launch(folder).wait() == 0, folder.result
    return folder


@pytest.fixture(scope="module")
def plain(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(tmp_path_factory.mktemp("plain"), assets)


def adapter_of(result: str) -> dict[str, Any]:
    """The kinds of matrices in an adapter, and the scalings of plain peft that has loaded it on
    the base in full precision, with the loss there."""
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    names = load_file(Path(result, "adapter_model.safetensors"))
    kinds = {part for name in names for part in name.split(".")[-2:]}
    config = json.loads(Path(result, "adapter_config.json").read_bytes())
    base: Any = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    tuned: Any = PeftModel.from_pretrained(base, result)
    ids = torch.arange(3, 67).reshape(2, 32)
    with torch.no_grad():
        loss = tuned(input_ids=ids, labels=ids).loss.item()
    layers = [module for module in tuned.modules() if isinstance(module, LoraLayer)]
    scalings = {scaling for layer in layers for scaling in layer.scaling.values()}
    return {"kinds": kinds, "config": config, "scalings": scalings, "loss": loss}


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank(
    ask: Asker, assets: Path, plain: RunFolder, tmp_path: Path
) -> None:
    folder = trained(tmp_path, assets, use_rslora=True)

    adapter = ask(adapter_of, str(folder.staging))

    assert adapter["config"]["use_rslora"] is True
    assert adapter["scalings"] == {16.0 / 8**0.5}
    assert ask(adapter_of, str(plain.staging))["scalings"] == {16.0 / 8}
    # The first step is the untouched base; after it, the scaling shows.
    ours, theirs = folder.losses(), plain.losses()
    assert ours[1] == theirs[1]
    assert ours[3] != theirs[3]


def test_dora_trains_magnitudes_in_4_bits_and_loads_with_plain_peft(
    ask: Asker, assets: Path, plain: RunFolder, tmp_path: Path
) -> None:
    folder = trained(tmp_path, assets, use_dora=True)

    adapter = ask(adapter_of, str(folder.staging))

    assert adapter["config"]["use_dora"] is True
    assert "lora_magnitude_vector" in adapter["kinds"]
    assert "lora_magnitude_vector" not in ask(adapter_of, str(plain.staging))["kinds"]
    assert folder.losses()[3] != plain.losses()[3]
    before = weights(folder.checkpoints / "00000000")
    after = weights(folder.staging)
    moved = [name for name in after if "magnitude" in name and (before[name] != after[name]).any()]
    assert len(moved) == 14


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_neftune_changes_training_and_leaves_evaluation_alone(assets: Path, tmp_path: Path) -> None:
    quiet = trained(tmp_path / "a", assets, evaluation=assets / "eval.jsonl", learning_rate=1e-12)
    noisy = trained(
        tmp_path / "b",
        assets,
        evaluation=assets / "eval.jsonl",
        learning_rate=1e-12,
        neftune_noise_alpha=10.0,
    )

    # Nothing is learnt at such a rate: what differs is the noise, in training alone.
    assert all(noisy.losses()[step] != quiet.losses()[step] for step in (1, 2, 3))
    evaluated = [run.entries("eval_metrics")[-1]["loss"] for run in (quiet, noisy)]
    assert evaluated[0] == pytest.approx(evaluated[1], abs=1e-6)


def test_a_run_with_noise_that_was_stopped_is_the_run_that_was_not(
    assets: Path, tmp_path: Path
) -> None:
    wanted: dict[str, Any] = {"neftune_noise_alpha": 10.0, "max_steps": "4", "use_dora": True}
    whole = trained(tmp_path / "a", assets, **wanted)
    first = trained(tmp_path / "b", assets, **{**wanted, "save_steps": 2})
    for step in ("00000004",):  # as if the host had been lost after step 2
        folder = first.checkpoints / step
        folder.rename(folder.with_name(".lost"))
    second = make_run_folder(
        tmp_path / "b",
        assets / "model",
        assets / "train.jsonl",
        attempt=2,
        resume=True,
        **{
            "logging_steps": 1,
            "lora_dropout": 0.0,
            "bf16": False,
            "save_steps": 2,
            **wanted,
        },
    )

    assert launch(second).wait() == 0, second.result

    assert min(second.losses()) == 3
    assert {**first.losses(), **second.losses()} == whole.losses()
