"""Whole runs on data of several formats, in files of several kinds."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs
import pytest

from tests.unit.child.launching import launch
from tests.unit.child.run_folders import RunFolder, make_run_folder
from trainer_svc.child.manifest import prove

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

ROWS = 40


@pytest.fixture(scope="module")
def dialogues(assets: Path) -> list[tuple[str, str]]:
    """Questions and answers."""
    lines = (assets / "train.jsonl").read_text().splitlines()[:ROWS]
    chats = [json.loads(line)["messages"] for line in lines]
    turns = [{turn["role"]: turn["content"] for turn in chat} for chat in chats]
    return [(turn["user"], turn["assistant"]) for turn in turns]


def write_alpaca_csv(path: Path, dialogues: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["instruction", "input", "output"])
        writer.writerows([question, "in\nshort", answer] for question, answer in dialogues)
    return path


def write_sharegpt(path: Path, dialogues: list[tuple[str, str]]) -> Path:
    rows: list[Any] = [
        {
            "conversations": [
                {"from": "gpt", "value": "Hello."},
                {"from": "human", "value": question},
                {"from": "gpt", "value": answer},
            ]
        }
        for question, answer in dialogues
    ]
    rows.insert(3, {"conversations": [{"from": "human", "value": "nobody answers"}]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_texts(path: Path, dialogues: list[tuple[str, str]]) -> Path:
    texts = [f"{question} {answer}" for question, answer in dialogues]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=8)
    return path


def run(folder: RunFolder) -> int:
    process = launch(folder)
    code = process.wait()
    assert (folder.path / "result.json").exists(), process.output()
    return code


def test_a_run_learns_from_alpaca_sharegpt_and_plain_text_together(
    assets: Path, dialogues: list[tuple[str, str]], tmp_path: Path
) -> None:
    alpaca = write_alpaca_csv(tmp_path / "alpaca.csv", dialogues)
    sharegpt = write_sharegpt(tmp_path / "sharegpt.jsonl", dialogues)
    texts = write_texts(tmp_path / "texts.parquet", dialogues)
    folder = make_run_folder(
        tmp_path,
        assets / "model",
        f"{alpaca}#16",
        more_train=(f"{sharegpt}#20", f"{texts}#12"),
        evaluation=f"{texts}#4",
        num_train_epochs=3.0,
        logging_steps=1,
    )

    code = run(folder)

    assert code == 0
    receipts = folder.entries("data_prepared")
    counts = [(entry["part"], entry["rows_read"], entry["rows_kept"]) for entry in receipts]
    assert counts == [
        ("train", "16", "16"),
        ("train", "20", "19"),
        ("train", "12", "12"),
        ("eval", "4", "4"),
    ]
    dropped = [{"reason": "no_assistant_turn", "count": "1", "places": [f"{sharegpt}:4"]}]
    assert receipts[1]["dropped"] == dropped
    assert receipts[2]["supervised_tokens"] == receipts[2]["tokens"]
    assert int(receipts[0]["supervised_tokens"]) < int(receipts[0]["tokens"])
    losses = folder.losses()
    assert folder.result["step"] == len(losses) == 36  # (16 + 19 + 12) / 4, three times
    assert losses[36] < losses[1] / 2
    assert prove(folder.staging)["data"] == receipts


def test_a_model_without_a_chat_template_learns_plain_text(
    assets: Path, dialogues: list[tuple[str, str]], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in (assets / "model").iterdir():
        if file.name != "chat_template.jinja":
            (model / file.name).write_bytes(file.read_bytes())
    texts = write_texts(tmp_path / "texts.parquet", dialogues)
    folder = make_run_folder(tmp_path, model, texts, logging_steps=1, packing=True)

    code = run(folder)

    assert code == 0
    assert folder.result["outcome"] == "COMPLETED"


def test_a_run_with_too_many_bad_rows_fails_before_the_model_is_loaded(
    assets: Path, dialogues: list[tuple[str, str]], tmp_path: Path
) -> None:
    sharegpt = write_sharegpt(tmp_path / "sharegpt.jsonl", dialogues)
    with sharegpt.open("a") as file:
        file.write("{broken\n" * 5)
    fields = {"strict": False, "max_dropped_fraction": 0.1}
    folder = make_run_folder(tmp_path, assets / "model", sharegpt, spec_fields=fields)

    code = run(folder)

    failure = folder.result["failure"]
    assert code == 1
    assert failure["cause"] == "FAILURE_CAUSE_DATASET_INVALID"
    assert "6 of 46 rows" in failure["message"]
    assert "malformed: 5 " in failure["message"]
    assert f"{sharegpt}:42" in failure["message"]
    assert folder.event_types() == ["DATA_PREPARING", "FAILED"]
    assert folder.entries("data_prepared")[0]["rows_kept"] == "40"
