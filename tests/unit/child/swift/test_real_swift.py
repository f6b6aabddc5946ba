"""Whole runs of the ms-swift child with ms-swift itself, on a tiny model."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.swift import swift_python
from tests.unit.child.run_folders import RunFolder
from tests.unit.child.swift.swift_runs import SwiftChild, make_swift_folder
from trainer_svc.child.manifest import prove
from trainer_svc.child.swift.environment import STARTUP

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

STEPS = 16
SAVED_AT = 6


@pytest.fixture(scope="module")
def whole(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of 16 steps that nothing interrupted. Read it, do not write to it."""
    folder = attempt(tmp_path_factory.mktemp("whole"), assets, evaluation=assets / "eval.jsonl")
    child = SwiftChild(folder)
    assert child.wait() == 0, child.output
    return folder


def attempt(root: Path, assets: Path, **more: Any) -> RunFolder:
    model = more.pop("model", assets / "model")
    return make_swift_folder(root, model, assets / "train.jsonl", swift_python(), **more)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_a_run_learns_and_tells_each_step_once(whole: RunFolder) -> None:
    losses = whole.losses()

    assert whole.result["outcome"] == "COMPLETED"
    assert list(losses) == list(range(1, STEPS + 1))
    assert losses[STEPS] < losses[1] / 2
    (first, *_) = whole.entries("train_metrics")
    assert int(first["total_steps"]) == STEPS
    assert int(first["host_memory_bytes"]) > 100 << 20
    evaluations = whole.entries("eval_metrics")
    assert [entry["step"] for entry in evaluations] == ["8", "16"]
    assert evaluations[1]["loss"] < evaluations[0]["loss"]
    assert [event for event in whole.event_types() if event != "DATA_TOKENISING"] == [
        "DATA_PREPARING",
        "DATA_PREPARING",
        "SWIFT_STARTED",
        "MODEL_LOADING",
        "MODEL_LOADED",
        "TRAINING_STARTED",
        "ENDED",
    ]


# ms-swift's own tokens, asked for without any of our code.
COUNTING = """
import json, sys
from swift import get_processor, get_template
model, rows = sys.argv[1:]
template = get_template(
    get_processor(model, model_type="qwen3"),
    template_type="qwen3",
    loss_scale="default+ignore_empty_think",  # as training has it with such a template
)
template.set_mode("train")
labels = [template.encode(json.loads(row))["labels"] for row in open(rows)]
learnt = sum(label != -100 for row in labels for label in row[1:])
print(json.dumps([len(labels), sum(map(len, labels)), learnt]))
"""


def test_the_receipt_counts_what_ms_swift_itself_counts(whole: RunFolder, assets: Path) -> None:
    argv = [str(swift_python()), "-c", COUNTING, str(assets / "model"), str(assets / "train.jsonl")]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(STARTUP),
    }

    printed = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)

    counted = json.loads(printed.stdout.splitlines()[-1])
    receipt = whole.entries("data_prepared")[0]
    names = ("rows_read", "tokens", "supervised_tokens")
    assert [int(receipt[name]) for name in names] == counted


def test_the_result_and_its_checkpoints_are_proven(whole: RunFolder) -> None:
    saved = whole.entries("checkpoint_saved")
    manifest = prove(whole.staging)

    assert [int(entry["step"]) for entry in saved] == [6, 12, 16]
    assert saved[2]["eval_loss"] > 0
    for folder in whole.checkpoints.iterdir():
        prove(folder)
    assert manifest["library_versions"]["ms-swift"].startswith("4.")
    assert {"tokenizer.json", "chat_template.jinja", "args.json"} <= set(manifest["files"])
    final = weights(whole.checkpoints / f"{STEPS:08}")
    assert all((weight == final[name]).all() for name, weight in weights(whole.staging).items())


def test_a_paused_run_goes_on_as_if_nothing_had_happened(
    whole: RunFolder, assets: Path, tmp_path: Path
) -> None:
    evaluation = assets / "eval.jsonl"
    first = attempt(tmp_path, assets, evaluation=evaluation)
    child = SwiftChild(first)
    child.until_step(2)

    child.stop("PAUSE")
    assert child.wait() == 0, child.output
    paused_at = first.result["step"]
    second = attempt(tmp_path, assets, evaluation=evaluation, attempt=2, resume=True)
    code = SwiftChild(second).wait()

    assert code == 0
    assert first.result["outcome"] == "STOPPED"
    assert 2 <= paused_at < STEPS
    assert list(second.losses()) == list(range(paused_at + 1, STEPS + 1))
    assert second.losses()[STEPS] == pytest.approx(whole.losses()[STEPS], rel=0.05)


def test_a_killed_trainer_is_resumed_from_its_last_checkpoint(assets: Path, tmp_path: Path) -> None:
    first = attempt(tmp_path, assets, num_train_epochs=8.0)
    child = SwiftChild(first)
    child.until(lambda: first.entries("checkpoint_saved"))

    below = psutil.Process(child.pid).children(recursive=True)
    (trainer,) = [one for one in below if any(word.endswith("sft.py") for word in one.cmdline())]
    os.kill(trainer.pid, signal.SIGKILL)
    code = child.wait()
    left = sorted(int(path.name) for path in first.checkpoints.iterdir())
    second = attempt(tmp_path, assets, num_train_epochs=8.0, attempt=2, resume=True)
    assert SwiftChild(second).wait() == 0

    assert code == 128 + signal.SIGKILL
    assert not (first.path / "result.json").exists()
    assert second.result["outcome"] == "COMPLETED"
    assert min(second.losses()) == left[-1] + 1


CANARY = """
from pathlib import Path
Path({file!r}).write_text("ran")
raise RuntimeError("the canary sings")
"""


@pytest.mark.parametrize("trusted", [False, True])
def test_a_models_code_runs_only_where_it_is_trusted(
    assets: Path, tmp_path: Path, trusted: bool
) -> None:
    model, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(assets / "model", model)
    config = json.loads((model / "config.json").read_bytes())
    config["auto_map"] = {"AutoConfig": "configuration_canary.CanaryConfig"}
    (model / "config.json").write_text(json.dumps(config))
    (model / "configuration_canary.py").write_text(CANARY.format(file=str(canary)))
    document = {"trust_remote_code": trusted}
    folder = attempt(tmp_path / "job", assets, model=model, document=document)

    child = SwiftChild(folder)
    code = child.wait()

    assert code == 1
    assert canary.exists() is trusted
    assert ("the canary sings" in child.output) is trusted
    if not trusted:
        assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"


@pytest.mark.timeout(480)  # two runs
def test_variants_of_lora_and_noise_reach_ms_swift(assets: Path, tmp_path: Path) -> None:
    few = {"num_train_epochs": 1.0, "max_steps": "2", "logging_steps": 1, "lora_dropout": 0.0}
    wanted = {**few, "use_rslora": True, "use_dora": True}
    quiet = attempt(tmp_path / "a", assets, **wanted)
    noisy = attempt(tmp_path / "b", assets, neftune_noise_alpha=10.0, **wanted)
    for folder in (quiet, noisy):
        child = SwiftChild(folder)
        assert child.wait() == 0, child.output

    config = json.loads((noisy.staging / "adapter_config.json").read_bytes())
    assert (config["use_rslora"], config["use_dora"]) == (True, True)
    assert [name for name in weights(noisy.staging) if "lora_magnitude_vector" in name]
    arguments = json.loads((noisy.staging / "args.json").read_bytes())
    assert arguments["neftune_noise_alpha"] == 10.0
    # Before anything is learnt, the noise is all that differs.
    assert noisy.losses()[1] != quiet.losses()[1]
