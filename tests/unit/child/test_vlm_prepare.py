"""Rows about pictures that cannot be encoded after all, or are too long."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.images import Pictures
from trainer_svc.child.raw_row import RawRow
from trainer_svc.child.source_rows import Rules, Source
from trainer_svc.child.vlm_masks import PictureEncoder
from trainer_svc.child.vlm_prepare import Preparation

# The libraries warn about themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def preparation(assets: Path, root: Path, max_length: int, strict: bool) -> Preparation:
    from transformers import AutoProcessor

    auto: Any = AutoProcessor
    encoder = PictureEncoder(auto.from_pretrained(assets / "model"), assistant_only=True)
    pictures = Pictures([root], root.parent / "written")
    return Preparation(encoder, max_length, Rules(strict=strict, pictures=pictures), root.parent)


def about(picture: str) -> dict[str, Any]:
    question = {"role": "user", "content": "<image>What is it?"}
    return {"messages": [question, {"role": "assistant", "content": "A box."}], "images": [picture]}


def source_of(root: Path, rows: Iterator[RawRow]) -> Source:
    stream = (row for row in rows)
    return Source("data.jsonl", "data.jsonl", stream, None, None, root)


def rows_whose_first_picture_goes(root: Path) -> Iterator[RawRow]:
    yield RawRow(about("a.png"), 1)
    (root / "a.png").unlink()
    yield RawRow(about("b.png"), 2)


def test_a_picture_that_goes_meanwhile_is_told_with_its_row(vlm_assets: Path, root: Path) -> None:
    strict = preparation(vlm_assets, root, 256, strict=True)
    source = source_of(root, rows_whose_first_picture_goes(root))

    with pytest.raises(RunFailed, match=r"^data\.jsonl:1: .*a\.png") as caught:
        strict.prepare("train", [source], root.parent / "train.arrow")

    assert caught.value.cause is Cause.DATASET_INVALID


def test_a_picture_that_goes_meanwhile_is_counted(vlm_assets: Path, root: Path) -> None:
    lenient = preparation(vlm_assets, root, 256, strict=False)
    source = source_of(root, rows_whose_first_picture_goes(root))

    (tally,) = lenient.prepare("train", [source], root.parent / "train.arrow")

    assert (tally.rows_read, tally.rows_kept) == (2, 1)
    assert tally.dropped["malformed"].places == ["data.jsonl:1"]


def test_rows_that_are_all_too_long_are_told_as_not_cut(vlm_assets: Path, root: Path) -> None:
    # The picture alone takes 16 tokens; the answer begins before the 30th.
    short = preparation(vlm_assets, root, 30, strict=True)
    source = source_of(root, iter([RawRow(about("b.png"), 1)]))

    (tally,) = short.prepare("train", [source], root.parent / "train.arrow")
    with pytest.raises(RunFailed, match=r"every row of data\.jsonl is too long") as caught:
        tally.require_rows()

    assert "none of the 1 is within max_length = 30" in str(caught.value)
    assert "are not cut" in str(caught.value)
