"""The tiny vision-language model, its pictures and its dialogues: made by code, always the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer_svc.child import demo_assets

# The libraries warn about themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("default")


def make(folder: Path, *arguments: str) -> Path:
    assert demo_assets.main(["--kind", "vlm", "--out", str(folder), *arguments]) == 0
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_arguments_make_the_same_bytes(vlm_assets: Path, tmp_path: Path) -> None:
    again = contents(make(tmp_path, "--dialogues", "64"))

    assert again == contents(vlm_assets)
    assert {"model/model.safetensors", "model/preprocessor_config.json"} <= again.keys()
    assert sum(name.endswith(".png") for name in again) > 20


def test_every_mark_has_its_picture(vlm_assets: Path) -> None:
    train, held_out = (rows_of(vlm_assets / f"{part}.jsonl") for part in ("train", "eval"))

    assert len(train) == 64
    for row in train + held_out:
        text = "".join(message["content"] for message in row["messages"])
        assert text.count("<image>") == len(row["images"])
        assert all((vlm_assets / path).is_file() for path in row["images"])
    assert {len(row["images"]) for row in train} == {1, 2}
    assert not [row for row in held_out if row in train]


def test_pictures_show_what_their_dialogue_says(vlm_assets: Path) -> None:
    from PIL import Image

    rows = rows_of(vlm_assets / "train.jsonl")
    red = next(path for row in rows for path in row["images"] if "/red-" in path)
    blue = next(path for row in rows for path in row["images"] if "/blue-" in path)

    middle = {}
    for path in (red, blue):
        with Image.open(vlm_assets / path) as picture:
            middle[path] = picture.getpixel((28, 28))

    assert middle == {red: (220, 30, 30), blue: (40, 60, 220)}


def test_the_tokenizer_learns_from_a_file_with_pictures(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    data = tmp_path / "data.json"
    said = [
        {"role": "user", "content": "<image>他们是谁"},
        {"role": "assistant", "content": "拜仁慕尼黑"},
    ]
    data.write_text(json.dumps([{"messages": said, "images": ["1.jpg"]}] * 8))

    folder = make(tmp_path / "out", "--tokenizer-from", str(data))

    tokenizer: Any = AutoTokenizer.from_pretrained(folder / "model")
    assert len(tokenizer.tokenize("拜仁慕尼黑")) == 1
    assert tokenizer.tokenize("<image>他们是谁")[0] == "<image>"
