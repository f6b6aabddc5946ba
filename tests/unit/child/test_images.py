"""Which pictures are let through to training, and what is said of the others."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainer_svc.child.dialogue import Message
from trainer_svc.child.images import PictureBroken, Pictures, picture_values
from trainer_svc.child.rows.broken import RowBroken


def picture_bytes(form: str = "PNG", side: int = 8, mode: str = "RGB") -> bytes:
    data = BytesIO()
    noise = os.urandom(side * side * len(mode))
    Image.frombytes(mode, (side, side), noise).save(data, form)
    return data.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "pictures").mkdir(parents=True)
    (root / "pictures" / "a.png").write_bytes(picture_bytes())
    (root / "link.png").symlink_to(root / "pictures" / "a.png")
    (tmp_path / "outside.png").write_bytes(picture_bytes())
    (root / "leak.png").symlink_to(tmp_path / "outside.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "cut.jpg").write_bytes(picture_bytes("JPEG", side=64)[:-400])
    (root / "text.png").write_text("no picture")
    (root / "vector.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (root / "empty.png").write_bytes(b"")
    Image.new("L", (1, 201)).save(root / "strip.png")
    Image.new("L", (200, 1)).save(root / "thin.png")
    os.mkfifo(root / "pipe.png")
    return root


def pictures_of(root: Path) -> Pictures:
    return Pictures([root], root.parent / "cache")


def check(pictures: Pictures, root: Path, *values: Any) -> tuple[Path, ...]:
    dialogue = (Message("user", "<image>" * len(values)), Message("assistant", "a"))
    return pictures.check(dialogue, values, root)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures_that_decode_are_found(root: Path, form: str) -> None:
    (root / "any").write_bytes(picture_bytes(form))

    assert check(pictures_of(root), root, "any") == (root / "any",)


def test_paths_are_relative_to_the_data_file_or_inside_the_roots(root: Path) -> None:
    real = root / "pictures" / "a.png"
    given = ["pictures/a.png", str(real), "link.png", {"path": "link.png", "bytes": None}]

    assert check(pictures_of(root), root, *given) == (real,) * 4
    assert check(pictures_of(root), root / "pictures", "a.png", "../link.png") == (real, real)


@pytest.mark.parametrize(
    ("value", "reason", "message"),
    [
        ("none.png", "image_missing", "none.png does not exist"),
        ("../outside.png", "image_missing", "outside the data roots"),
        ("leak.png", "image_missing", "outside the data roots"),
        ("/etc/hostname", "image_missing", "outside the data roots"),
        ("loop.png", "image_missing", "does not exist or cannot be read"),
        ("a\0b", "image_missing", "no path"),
        ("\ud800.png", "malformed", r"'\\ud800.png' is not a path"),
        ({"path": "http://\udc80"}, "malformed", "is not a path"),
        ("strip.png", "image_broken", "strip.png is more than 200 times as long as wide"),
        ("x" * 300, "image_missing", "does not exist or cannot be read"),
        ("pictures", "image_missing", "is not a file"),
        ("pipe.png", "image_missing", "is not a file"),
        ("cut.jpg", "image_broken", "cut.jpg does not decode: .*truncated"),
        ("text.png", "image_broken", "is not a picture in a format known here"),
        ("vector.eps", "image_broken", "is not a picture in a format known here"),
        ("empty.png", "image_broken", "is not a picture"),
        ({"bytes": b"no picture"}, "image_broken", "its bytes: is not a picture"),
        ("http://example.com/a.png", "malformed", "not fetched from the network"),
        ("HTTPS://example.com/a.png", "malformed", "not fetched from the network"),
        ("file:///etc/hostname", "image_missing", "outside the data roots"),
        ("ftp://example.com/a.png", "malformed", "copy them next to the data file"),
        ("data:image/png;base64,AAAA", "image_broken", "its bytes: is not a picture"),
        ("data:image/png;base64,A", "image_broken", "its base64 is broken"),
        ("data:text/plain,hello", "malformed", "only pictures in base64 are read"),
        (None, "malformed", "expected a path"),
        ("", "malformed", "expected a path"),
        (7, "malformed", "expected a path"),
        ({"url": "x"}, "malformed", "expected a path"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(
    root: Path, value: Any, reason: str, message: str
) -> None:
    with pytest.raises(PictureBroken, match=f"^picture 2: .*{message}") as caught:
        check(pictures_of(root), root, "link.png", value)

    assert caught.value.reason == reason


def test_a_picture_that_would_fill_the_memory_is_refused(root: Path) -> None:
    # 18,000 x 18,000 black pixels are 40 KB in a file and a gigabyte when decoded.
    (root / "bomb.png").write_bytes(black_png(18_000))
    (root / "large.png").write_bytes(black_png(9_500))

    for name in ("bomb.png", "large.png"):
        with pytest.raises(PictureBroken, match="more than 89,478,485 pixels") as caught:
            check(pictures_of(root), root, name)
        assert caught.value.reason == "image_broken"


def test_a_picture_may_be_long_within_reason(root: Path) -> None:
    assert check(pictures_of(root), root, "thin.png") == (root / "thin.png",)


def test_the_pictures_of_one_row_have_a_limit_together(root: Path) -> None:
    (root / "large.png").write_bytes(black_png(9_000))
    data = (root / "large.png").read_bytes()
    pictures = pictures_of(root)

    two = check(pictures, root, "large.png", {"bytes": data})
    with pytest.raises(PictureBroken, match="3 pictures have 243,000,000 pixels") as caught:
        check(pictures, root, "large.png", {"bytes": data}, "large.png")

    assert len(two) == 2
    assert caught.value.reason == "image_broken"


def black_png(side: int) -> bytes:
    data = BytesIO()
    Image.new("1", (side, side)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("contents", "count"), [(["<image>"], 0), (["<image><image>", "<image>"], 2), (["none"], 1)]
)
def test_marks_and_pictures_are_as_many(root: Path, contents: list[str], count: int) -> None:
    dialogue = tuple(Message("user", content) for content in contents)
    marks = sum(content.count("<image>") for content in contents)

    with pytest.raises(PictureBroken, match=f"{marks} <image> marks, but {count} pictures") as at:
        pictures_of(root).check(dialogue, ["link.png"] * count, root)

    assert at.value.reason == "images_do_not_match"


def test_bytes_are_written_aside_once(root: Path) -> None:
    data, other = picture_bytes("JPEG"), picture_bytes("PNG")
    pictures = pictures_of(root)

    found = check(pictures, root, {"bytes": data, "path": "a.jpg"}, {"bytes": other})
    written = [path.stat().st_mtime_ns for path in found]
    again = check(pictures, root, {"bytes": data})

    assert [path.read_bytes() for path in found] == [data, other]
    assert [path.stat().st_mtime_ns for path in found] == written
    assert [path.suffix for path in found] == [".jpeg", ".png"]
    assert again == found[:1]
    assert len(list((root.parent / "cache").iterdir())) == 2


def test_the_same_picture_is_decoded_once(root: Path) -> None:
    pictures = pictures_of(root)
    check(pictures, root, "link.png")

    (root / "pictures" / "a.png").write_bytes(b"not what it was")

    # Not looked at again by its other name either.
    assert check(pictures, root, "pictures/a.png") == (root / "pictures" / "a.png",)
    with pytest.raises(PictureBroken):
        check(pictures_of(root), root, "pictures/a.png")


def test_without_a_data_file_pictures_have_no_relative_paths(root: Path) -> None:
    dialogue = (Message("user", "<image>"),)

    with pytest.raises(PictureBroken, match="relative to no file") as caught:
        pictures_of(root).check(dialogue, ["link.png"], None)

    assert caught.value.reason == "image_missing"
    real = root / "pictures" / "a.png"
    assert pictures_of(root).check(dialogue, [str(real)], None) == (real,)


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ({"images": ["a", {"path": "b"}]}, ["a", {"path": "b"}]),
        ({"images": "a"}, ["a"]),
        ({"image": {"bytes": b"x"}}, [{"bytes": b"x"}]),
        ({"images": None}, []),
        ({"images": ""}, []),
        ({"messages": []}, []),
        (["an", "utterance"], []),
    ],
)
def test_pictures_are_listed_in_several_ways(row: Any, values: list[Any]) -> None:
    assert picture_values(row) == values


def test_pictures_that_are_no_list_are_refused() -> None:
    with pytest.raises(RowBroken, match='expected "images" with a list'):
        picture_values({"images": 3})
