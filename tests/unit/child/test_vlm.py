"""Whole runs of the training process on a tiny vision-language model, in real child processes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually_sync
from tests.unit.child.launching import call_warm, launch
from tests.unit.child.run_folders import RunFolder, make_run_folder
from trainer_svc.child.manifest import prove

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

VLM = "MODEL_KIND_VLM"
STEPS = 16
# 16 steps in two epochs of 64 rows, dropout on, evaluation at each epoch's end.
WHOLE: dict[str, Any] = {
    "model_kind": VLM,
    "num_train_epochs": 2.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "lora_dropout": 0.1,
    "save_steps": 6,
    "logging_steps": 1,
    "bf16": False,
}
# Enough for answers that are about the picture asked about.
LONG: dict[str, Any] = {
    "model_kind": VLM,
    "max_steps": "120",
    "lora_dropout": 0.0,
    "logging_steps": 10,
    "bf16": False,
}


def run(folder: RunFolder) -> int:
    process = launch(folder)
    code = process.wait()
    assert (folder.path / "result.json").exists(), process.output()
    return code


def whole_folder(root: Path, assets: Path, **changes: Any) -> RunFolder:
    return make_run_folder(
        root,
        assets / "model",
        assets / "train.jsonl",
        evaluation=assets / "eval.jsonl",
        **{**WHOLE, **changes},
    )


@pytest.fixture(scope="session")
def whole_vlm_run(vlm_assets: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of 16 steps that nothing interrupted. Read it, do not write to it."""
    folder = whole_folder(tmp_path_factory.mktemp("whole-vlm"), vlm_assets)
    assert run(folder) == 0
    return folder


def test_a_run_with_pictures_learns_and_keeps_checkpoints(whole_vlm_run: RunFolder) -> None:
    result, losses = whole_vlm_run.result, whole_vlm_run.losses()

    assert result["outcome"] == "COMPLETED"
    assert (result["step"], result["total_steps"]) == (STEPS, STEPS)
    assert losses[STEPS] < losses[1] / 2
    evaluations = whole_vlm_run.entries("eval_metrics")
    assert [entry["step"] for entry in evaluations] == ["8", "16"]
    assert evaluations[1]["loss"] < evaluations[0]["loss"]
    saved = whole_vlm_run.entries("checkpoint_saved")
    assert [int(entry.get("step", 0)) for entry in saved] == [0, 6, 12, 16]
    for folder in whole_vlm_run.checkpoints.iterdir():
        prove(folder)
    assert list(whole_vlm_run.cache.iterdir()) == []


def counted(model: str, rows: list[list[dict[str, str]]]) -> dict[str, int]:
    """Tokens of the rows as LLaVA writes them, and those of the assistant's turns."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    words = {"user": "USER: {}\n", "assistant": "ASSISTANT:{}</s>"}
    tokens = supervised = 0
    for row in rows:
        text = "<s>" + "".join(words[turn["role"]].format(turn["content"]) for turn in row)
        tokens += len(tokenizer(text.replace("<image>", "<image>" * 16 + "\n"))["input_ids"])
        answers = (turn["content"] for turn in row if turn["role"] == "assistant")
        supervised += sum(len(tokenizer(f"{answer}</s>")["input_ids"]) for answer in answers)
    return {"tokens": tokens, "supervised_tokens": supervised}


def test_the_receipt_counts_pictures_and_what_is_learnt(
    whole_vlm_run: RunFolder, vlm_assets: Path
) -> None:
    lines = (vlm_assets / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line)["messages"] for line in lines]

    expected = call_warm(counted, str(vlm_assets / "model"), rows)

    receipt = whole_vlm_run.entries("data_prepared")[0]
    assert receipt["rows_kept"] == receipt["rows_read"] == str(len(rows))
    assert {name: int(receipt[name]) for name in expected} == expected
    # Two epochs have read every token twice.
    last = whole_vlm_run.entries("train_metrics")[-1]
    assert int(last["tokens"]) == 2 * expected["tokens"]


def test_the_result_has_all_that_its_user_needs(whole_vlm_run: RunFolder) -> None:
    manifest = prove(whole_vlm_run.staging)

    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "processor_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    } <= set(manifest["files"])
    assert manifest["data"] == whole_vlm_run.entries("data_prepared")


def adapter_weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def test_only_the_language_model_is_adapted(whole_vlm_run: RunFolder) -> None:
    before = adapter_weights(whole_vlm_run.checkpoints / "00000000")
    after = adapter_weights(whole_vlm_run.staging)

    assert len(after) == 28  # two matrices on seven layers of each of two blocks
    assert all(".language_model." in name for name in after)
    assert all((before[name] != after[name]).any() for name in before)


def modules_of(model: str, targets: list[str]) -> dict[str, list[str]]:
    """The names of the quantised modules, and of the weights that are trained."""
    from bitsandbytes.nn.modules import Linear4bit
    from tunewright.v1.spec_pb2 import Hyperparameters

    from trainer_svc.child.hardware import choose_hardware
    from trainer_svc.child.model import BaseModel, add_lora
    from trainer_svc.child.targets import find_targets
    from trainer_svc.child.vlm import frozen_parts, load_vlm

    wanted = Hyperparameters(
        load_in_4bit=True, lora_r=4, lora_alpha=8, target_modules=targets, bf16=False
    )
    hardware = choose_hardware(True, wanted)
    loaded = load_vlm(BaseModel("tiny", "", Path(model)), wanted, hardware)
    named = list(loaded.named_modules())
    quantised = [name for name, module in named if isinstance(module, Linear4bit)]
    untouched = frozen_parts(loaded)
    adapted = add_lora(loaded, wanted, find_targets(loaded, wanted, untouched), untouched)
    trained = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    return {"quantised": quantised, "trained": trained}


@pytest.mark.parametrize(("targets", "layers"), [(["all-linear"], 14), (["q_proj"], 2)])
def test_the_vision_tower_is_neither_quantised_nor_adapted(
    vlm_assets: Path, targets: list[str], layers: int
) -> None:
    seen = call_warm(modules_of, str(vlm_assets / "model"), targets)

    assert len(seen["quantised"]) == 14
    assert len(seen["trained"]) == 2 * layers
    for name in seen["quantised"] + seen["trained"]:
        assert "language_model." in name


def test_a_paused_run_goes_on_as_if_nothing_had_happened(
    whole_vlm_run: RunFolder, vlm_assets: Path, tmp_path: Path
) -> None:
    first = whole_folder(tmp_path, vlm_assets)
    process = launch(first)
    eventually_sync(lambda: len(first.losses()) >= 3, timeout_seconds=90)
    process.stop("PAUSE")
    assert process.wait() == 0
    paused_at = first.result["step"]

    second = whole_folder(tmp_path, vlm_assets, attempt=2, resume=True)
    assert run(second) == 0

    assert first.result["outcome"] == "STOPPED"
    assert 3 <= paused_at < STEPS
    assert "RESUMED" in second.event_types()
    assert {**first.losses(), **second.losses()} == whole_vlm_run.losses()
    assert min(second.losses()) == paused_at + 1
    ours, theirs = adapter_weights(second.staging), adapter_weights(whole_vlm_run.staging)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def answers_of(model: str, adapter: str, pictures: list[str]) -> list[str]:
    from trainer_svc.child.try_adapter import ask

    prompt = "What is in the picture?"
    return [ask(model, Path(adapter), prompt, 8, Path(one))["reply"] for one in pictures]


def test_the_adapter_tells_what_is_in_a_picture(vlm_assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, vlm_assets / "model", vlm_assets / "train.jsonl", **LONG)
    assert run(folder) == 0
    pictures = [
        str(next((vlm_assets / "images").glob(f"{colour}-*.png"))) for colour in ("red", "blue")
    ]

    replies = call_warm(answers_of, str(vlm_assets / "model"), str(folder.staging), pictures)

    assert folder.losses()[120] < folder.losses()[10] / 4
    assert ["red" in replies[0], "blue" in replies[1]] == [True, True], replies


def batches_of(model: str, picture: str) -> dict[str, Any]:
    """A batch of a row with a picture and one without, and one of the latter alone."""
    from transformers import AutoProcessor

    from trainer_svc.child.vlm_batches import PictureBatches, PictureLost

    auto: Any = AutoProcessor
    collate = PictureBatches(auto.from_pretrained(model))
    # 25 tokens: the picture has 16 of them.
    seen = {"text": "<s>USER: <image>\nA", "pictures": [picture], "labels": [-100] * 24 + [7]}
    said = {"text": "<s>USER: A", "pictures": [], "labels": [-100] * 7 + [7]}
    both, alone = collate([seen, said]), collate([said])
    try:
        collate([{**seen, "labels": [7]}])
        refused = ""
    except PictureLost as error:
        refused = str(error)
    return {
        "labels": both["labels"].tolist(),
        "pixels": tuple(both["pixel_values"].shape),
        "alone": sorted(alone),
        "refused": refused,
    }


def test_a_batch_takes_rows_with_and_without_pictures(vlm_assets: Path) -> None:
    picture = str(next((vlm_assets / "images").iterdir()))

    batches = call_warm(batches_of, str(vlm_assets / "model"), picture)

    assert batches["labels"] == [[-100] * 24 + [7], [-100] * 7 + [7] + [-100] * 17]
    assert batches["pixels"] == (1, 3, 28, 28)
    assert batches["alone"] == ["attention_mask", "input_ids", "labels"]
    assert batches["refused"] == f"a picture has changed: {picture}"


def long_row(words: int) -> dict[str, Any]:
    said = [
        {"role": "user", "content": "<image>What?" + " Tell me more." * words},
        {"role": "assistant", "content": "A red cross."},
    ]
    return {"messages": said, "images": ["images/red.png"]}


def test_a_row_too_long_is_left_out_and_counted(vlm_assets: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    picture = next((vlm_assets / "images").glob("red-*.png"))
    shutil.copyfile(picture, tmp_path / "images" / "red.png")
    data = tmp_path / "data.jsonl"
    rows = [long_row(0)] * 30 + [long_row(50)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = make_run_folder(
        tmp_path, vlm_assets / "model", data, model_kind=VLM, max_length=96, max_steps="1"
    )

    assert run(folder) == 0

    (receipt,) = folder.entries("data_prepared")
    assert (receipt["rows_read"], receipt["rows_kept"]) == ("31", "30")
    dropped = {"reason": "too_long", "count": "1", "places": [f"{data}:31"]}
    assert receipt["dropped"] == [dropped]
    assert "rows_truncated" not in receipt


def test_pictures_that_go_while_training_fail_the_data(vlm_assets: Path, tmp_path: Path) -> None:
    for name in ("images", "train.jsonl"):
        source = vlm_assets / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    folder = make_run_folder(
        tmp_path, vlm_assets / "model", tmp_path / "train.jsonl", model_kind=VLM,
        max_steps="5000", logging_steps=1, dataloader_num_workers=1,
    )  # fmt: skip
    process = launch(folder)
    eventually_sync(lambda: len(folder.losses()) >= 2, timeout_seconds=90)

    shutil.rmtree(tmp_path / "images")

    assert process.wait() == 1
    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_DATASET_INVALID"
    assert "cannot be read any more" in failure["message"]


def failure_of(folder: RunFolder) -> tuple[str, str]:
    assert run(folder) == 1
    failure = folder.result["failure"]
    assert failure["hint"]
    return failure["cause"].removeprefix("FAILURE_CAUSE_"), failure["message"]


def test_packing_is_refused(vlm_assets: Path, tmp_path: Path) -> None:
    folder = whole_folder(tmp_path, vlm_assets, packing=True)

    cause, message = failure_of(folder)

    assert cause == "CONFIG_INVALID"
    assert "packing" in message


def test_a_model_without_eyes_is_refused(assets: Path, vlm_assets: Path, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, assets / "model", vlm_assets / "train.jsonl", model_kind=VLM)

    cause, message = failure_of(folder)

    assert cause == "MODEL_INVALID"
    assert "(qwen3) reads no pictures" in message


def test_a_text_job_on_a_model_with_eyes_names_model_kind(
    assets: Path, vlm_assets: Path, tmp_path: Path
) -> None:
    folder = make_run_folder(tmp_path, vlm_assets / "model", assets / "train.jsonl")

    cause, message = failure_of(folder)

    assert cause == "MODEL_INVALID"
    assert "model_kind" in message
