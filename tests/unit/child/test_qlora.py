"""Whole runs of the training process, on a tiny model, in real child processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.alive import is_running
from tests.support.eventually import eventually_sync
from tests.unit.child.conftest import WHOLE
from tests.unit.child.launching import call_warm, launch
from tests.unit.child.run_folders import RunFolder, make_run_folder
from trainer_svc.child.manifest import digest_of, prove
from trainer_svc.child.prepare import PARALLEL_ROWS

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

STEPS = 16


def run(folder: RunFolder) -> int:
    process = launch(folder)
    code = process.wait()
    assert (folder.path / "result.json").exists(), process.output()
    return code


def resumed(whole: RunFolder, root: Path, assets: Path, **changes: Any) -> RunFolder:
    """The second attempt at a copy of the whole run."""
    shutil.copytree(whole.checkpoints.parents[2], root / "artifacts")
    return make_run_folder(
        root,
        assets / "model",
        assets / "train.jsonl",
        evaluation=assets / "eval.jsonl",
        attempt=2,
        resume=True,
        **{**WHOLE, **changes},
    )


def test_a_run_tells_what_it_does_and_learns(whole_run: RunFolder) -> None:
    result = whole_run.result
    losses = whole_run.losses()

    assert result["outcome"] == "COMPLETED"
    assert (result["step"], result["total_steps"]) == (STEPS, STEPS)
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1] / 2
    assert whole_run.event_types() == [
        "DATA_PREPARING",
        "DATA_PREPARING",
        "MODEL_LOADING",
        "MODEL_LOADED",
        "TRAINING_STARTED",
        "ENDED",
    ]
    evaluations = whole_run.entries("eval_metrics")
    assert [entry["step"] for entry in evaluations] == ["8", "16"]
    assert evaluations[1]["loss"] < evaluations[0]["loss"]


def test_each_metric_says_where_it_stands(whole_run: RunFolder) -> None:
    metrics = whole_run.entries("train_metrics")
    read = int(whole_run.entries("data_prepared")[0]["tokens"])

    assert {entry["total_steps"] for entry in metrics} == {str(STEPS)}
    # Two epochs have read every token twice.
    assert int(metrics[-1]["tokens"]) == 2 * read
    assert metrics[-1]["eta"] == "0s"
    for entry in metrics:
        assert entry["learning_rate"] >= 0
        assert entry["grad_norm"] > 0
        assert entry["tokens_per_second"] > 0
        assert int(entry["host_memory_bytes"]) > 100 << 20
        assert 0 <= entry.get("token_accuracy", 0) <= 1


def test_checkpoints_are_kept_by_the_rules(whole_run: RunFolder) -> None:
    saved = whole_run.entries("checkpoint_saved")

    assert [int(entry.get("step", 0)) for entry in saved] == [0, 6, 12, 16]
    assert saved[0]["record_only"] is True
    assert saved[3]["eval_loss"] > 0
    names = sorted(folder.name for folder in whole_run.checkpoints.iterdir())
    assert names == ["00000000", "00000012", "00000016"]
    for folder in whole_run.checkpoints.iterdir():
        prove(folder)
    assert not (whole_run.checkpoints / "00000000" / "optimizer.pt").exists()
    assert (whole_run.checkpoints / "00000016" / "optimizer.pt").exists()


def test_the_result_is_whole_and_nothing_else_is_left(whole_run: RunFolder) -> None:
    manifest = prove(whole_run.staging)

    data = (whole_run.staging / "manifest.json").read_bytes()
    assert whole_run.result["manifest_digest"] == digest_of(data)
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(
        manifest["files"]
    )
    assert manifest["data"] == whole_run.entries("data_prepared")
    assert manifest["base_model"]["name"].endswith("model")
    assert "trl" in manifest["library_versions"]
    assert manifest["metrics"]["best_step"] == STEPS
    assert list(whole_run.cache.iterdir()) == []


def adapter_weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_the_lora_weights_changed(whole_run: RunFolder) -> None:
    before = adapter_weights(whole_run.checkpoints / "00000000")
    after = adapter_weights(whole_run.staging)

    assert before.keys() == after.keys()
    assert {weight.dtype.name for weight in after.values()} == {"float32"}
    assert all((before[name] != after[name]).any() for name in before)


def frozen_base(folder: str) -> dict[str, Any]:
    """Trains a step in this process; what became of the base model."""
    from bitsandbytes.nn.modules import Linear4bit

    from trainer_svc.child import run as run_module
    from trainer_svc.child.attempt import Child
    from trainer_svc.child.run_spec import read_run_spec

    loaded: dict[str, Any] = {}

    class Watched(run_module.Run):
        def _load_model(self, *args: Any) -> Any:
            loaded["model"] = super()._load_model(*args)
            loaded["before"] = base_bytes(loaded["model"])
            return loaded["model"]

    code = Child(read_run_spec(Path(folder)), Watched).execute()
    model = loaded["model"]
    linear: list[Any] = [module for module in model.modules() if isinstance(module, Linear4bit)]
    return {
        "code": code,
        "linear": len(linear),
        "kinds": {module.weight.quant_state.quant_type for module in linear},
        "nested": {module.weight.quant_state.nested for module in linear},
        "trained": {name for name, weight in model.named_parameters() if weight.requires_grad},
        "unchanged": loaded["before"] == base_bytes(model),
        "grpc": "grpc" in sys.modules,
    }


def base_bytes(model: Any) -> dict[str, bytes]:
    import torch

    return {
        name: weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        for name, weight in model.named_parameters()
        if "lora_" not in name
    }


def test_the_base_is_nf4_and_frozen_and_only_lora_is_trained(assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, assets / "model", assets / "train.jsonl", max_steps="2")

    seen = call_warm(frozen_base, str(folder.path))

    assert seen["code"] == 0
    assert seen["linear"] == 14  # seven linear layers in each of two blocks
    assert seen["kinds"] == {"nf4"}
    assert seen["nested"] == {True}
    assert len(seen["trained"]) == 28
    assert all("lora_" in name for name in seen["trained"])
    assert seen["unchanged"]
    assert not seen["grpc"]


def test_a_paused_run_goes_on_as_if_nothing_had_happened(
    whole_run: RunFolder, assets: Path, tmp_path: Path
) -> None:
    common = {"evaluation": assets / "eval.jsonl", **WHOLE}
    first = make_run_folder(tmp_path, assets / "model", assets / "train.jsonl", **common)
    process = launch(first)
    eventually_sync(lambda: len(first.losses()) >= 3, timeout_seconds=90)
    process.stop("PAUSE")
    assert process.wait() == 0
    paused_at = first.result["step"]

    second = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", attempt=2, resume=True, **common
    )
    assert run(second) == 0

    assert first.result["outcome"] == "STOPPED"
    assert 3 <= paused_at < STEPS
    assert first.entries("checkpoint_saved")[-1]["step"] == str(paused_at)
    assert second.result["outcome"] == "COMPLETED"
    assert "RESUMED" in second.event_types()
    assert {**first.losses(), **second.losses()} == whole_run.losses()
    assert min(second.losses()) == paused_at + 1
    assert (
        second.entries("train_metrics")[-1]["tokens"]
        == (whole_run.entries("train_metrics")[-1]["tokens"])
    )
    ours, theirs = adapter_weights(second.staging), adapter_weights(whole_run.staging)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_checkpoint_with_a_flipped_bit_is_passed_over(
    whole_run: RunFolder, assets: Path, tmp_path: Path
) -> None:
    folder = resumed(whole_run, tmp_path, assets)
    weights = folder.checkpoints / "00000016" / "optimizer.pt"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)

    code = run(folder)

    assert code == 0
    invalid = next(e for e in folder.entries("event") if e["type"] == "CHECKPOINT_INVALID")
    assert "optimizer.pt has not the hash" in invalid["message"]
    late = {step: loss for step, loss in whole_run.losses().items() if step > 12}
    assert folder.losses() == late


def test_a_run_that_resumes_at_its_last_step_publishes(
    whole_run: RunFolder, assets: Path, tmp_path: Path
) -> None:
    folder = resumed(whole_run, tmp_path, assets)

    code = run(folder)

    assert code == 0
    assert folder.result["outcome"] == "COMPLETED"
    assert folder.result["step"] == STEPS
    assert folder.losses() == {}
    prove(folder.staging)
    ours, theirs = adapter_weights(folder.staging), adapter_weights(whole_run.staging)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_without_a_checkpoint_it_starts_over_and_says_so(assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", attempt=2, resume=True, max_steps="2"
    )

    code = run(folder)

    assert code == 0
    assert "STARTING_OVER" in folder.event_types()
    assert folder.result["step"] == 2


@pytest.mark.parametrize("mode", ["CANCEL", "FENCE"])
def test_a_cancelled_run_stops_at_once_and_leaves_nothing(
    assets: Path, tmp_path: Path, mode: str
) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", max_steps="5000", logging_steps=1
    )
    process = launch(folder)
    eventually_sync(lambda: len(folder.losses()) >= 2, timeout_seconds=90)

    process.stop(mode)

    assert process.wait() == 0
    assert folder.result["outcome"] == "STOPPED"
    assert [path.name for path in folder.checkpoints.iterdir()] == ["00000000"]
    assert not folder.staging.exists()
    assert list(folder.cache.iterdir()) == []


def test_a_pause_before_the_first_step_stops_without_a_checkpoint(
    assets: Path, tmp_path: Path
) -> None:
    line = (assets / "train.jsonl").read_text().splitlines()[0]
    big = tmp_path / "big.jsonl"
    big.write_text(f"{line}\n" * 200_000)
    folder = make_run_folder(tmp_path, assets / "model", big)
    process = launch(folder)
    eventually_sync(lambda: "DATA_PREPARING" in folder.event_types(), timeout_seconds=90)

    process.stop("PAUSE")

    assert process.wait() == 0
    assert folder.result["outcome"] == "STOPPED"
    assert folder.result["step"] == 0
    assert not list(folder.cache.iterdir())


def encoding_run(assets: Path, root: Path) -> RunFolder:
    """A run with so many rows that several processes encode them."""
    line = (assets / "train.jsonl").read_text().splitlines()[0]
    big = root / "big.jsonl"
    big.write_text(f"{line}\n" * (PARALLEL_ROWS * 2))
    return make_run_folder(root, assets / "model", big)


@pytest.mark.parametrize("mode", ["PAUSE", "CANCEL"])
def test_a_stop_while_processes_encode_rows_is_a_stop(
    assets: Path, tmp_path: Path, mode: str
) -> None:
    folder = encoding_run(assets, tmp_path)
    process = launch(folder)
    eventually_sync(lambda: len(process.workers()) >= 2, timeout_seconds=90)
    workers = process.workers()

    process.stop(mode)

    assert process.wait() == 0, process.output()
    assert folder.result["outcome"] == "STOPPED"
    assert not list(folder.cache.iterdir())
    eventually_sync(
        lambda: not any(is_running(one.pid) for one in workers), 10, "the workers are gone"
    )


def test_a_process_that_is_killed_while_it_encodes_is_taken_for_memory(
    assets: Path, tmp_path: Path
) -> None:
    folder = encoding_run(assets, tmp_path)
    process = launch(folder)
    eventually_sync(lambda: len(process.workers()) >= 2, timeout_seconds=90)

    process.workers()[0].kill()

    assert process.wait() == 1
    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_HOST_OUT_OF_MEMORY"
    assert not list(folder.cache.iterdir())


def test_a_pause_with_processes_that_load_batches_keeps_its_step(
    assets: Path, tmp_path: Path
) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", max_steps="5000", logging_steps=1,
        dataloader_num_workers=1,
    )  # fmt: skip
    process = launch(folder)
    eventually_sync(lambda: len(folder.losses()) >= 2, timeout_seconds=90)

    process.stop("TIMEOUT")

    assert process.wait() == 0, process.output()
    assert folder.result["outcome"] == "STOPPED"
    last = folder.entries("checkpoint_saved")[-1]
    assert int(last["step"]) == folder.result["step"] >= 2


@pytest.mark.parametrize(
    ("changes", "cause", "message"),
    [
        ({"learning_rate": 9e18, "warmup_ratio": 0.0, "max_grad_norm": 0.0}, "DIVERGED", "step"),
        ({"target_modules": ["nope"]}, "CONFIG_INVALID", "nope"),
        ({"optim": "nope"}, "CONFIG_INVALID", "nope"),
        ({"max_length": 8}, "DATASET_INVALID", "too long"),
    ],
)
def test_a_run_that_cannot_go_on_says_why(
    assets: Path, tmp_path: Path, changes: dict[str, Any], cause: str, message: str
) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", logging_steps=1, **changes
    )

    code = run(folder)

    failure = folder.result["failure"]
    assert code == 1
    assert failure["cause"] == f"FAILURE_CAUSE_{cause}"
    assert message in failure["message"]
    assert failure["hint"]
    assert folder.event_types()[-1] == "FAILED"
    assert not folder.staging.exists()
    assert not list(folder.checkpoints.glob(".tmp-*"))


def test_a_model_whose_weights_do_not_cover_it_is_refused(assets: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(assets / "model", model)
    config = json.loads((model / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (model / "config.json").write_text(json.dumps(config))
    folder = make_run_folder(tmp_path, model, assets / "train.jsonl")

    code = run(folder)

    assert code == 1
    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"
    assert "layers.2" in folder.result["failure"]["message"]


def test_a_full_disk_is_said_in_the_result(assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, assets / "model", assets / "train.jsonl")
    (folder.path / "spool.jsonl").symlink_to("/dev/full")

    code = launch(folder).wait()

    assert code == 1
    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_DISK_FULL"


def packed_difference(model_folder: str) -> float:
    """How far the logits of two packed rows are from those of the same rows alone."""
    import torch
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from trainer_svc.child.sources import _packed

    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    rows = [list(range(10, 40)), list(range(50, 70))]
    packed = _packed(Dataset.from_dict({"input_ids": rows, "labels": rows}), max_length=64)
    assert packed[0]["seq_lengths"] == [30, 20]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([packed[0]])
    batch.pop("labels")
    with torch.inference_mode():
        together = model(**batch, use_cache=False).logits[0]  # as in training
        alone = torch.cat([model(input_ids=torch.tensor([row])).logits[0] for row in rows])
    return float((together - alone).abs().max())


def test_packed_rows_do_not_see_each_other(assets: Path) -> None:
    difference = call_warm(packed_difference, str(assets / "model"))

    assert difference < 1e-3


def test_packed_rows_learn_with_checkpointing_and_bf16(assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", packing=True, max_steps="6",
        per_device_train_batch_size=1, max_length=128, assistant_only_loss=False,
        gradient_checkpointing=True, bf16=True, logging_steps=1,
    )  # fmt: skip

    code = run(folder)

    losses = folder.losses()
    assert code == 0
    assert losses[6] < losses[1]
    assert folder.result["total_steps"] == 6


def test_the_command_runs_and_the_result_answers(assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", max_steps="4",
        load_in_4bit=False,
    )  # fmt: skip
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "trainer_svc.child.qlora", str(folder.path)]

    trained = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    answer = call_warm(answer_of, str(assets / "model"), str(folder.staging))

    assert trained.returncode == 0, trained.stderr
    assert set(answer) == {"reply", "parameters"}
    assert answer["parameters"] > 0


def answer_of(model: str, adapter: str) -> dict[str, Any]:
    from trainer_svc.child.try_adapter import ask

    return ask(model, Path(adapter), "Where is the hammer?", 8)
