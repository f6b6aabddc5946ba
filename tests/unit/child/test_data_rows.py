"""Finding rows in files of every shape, and naming the line of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer_svc.child.data_rows import RawRow, read_rows
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.json_stream import READ_BYTES


def rows_of(path: Path, split: str = "") -> list[RawRow]:
    return list(read_rows(path, split, "train"))


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "data.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_json_lines_give_each_row_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, '{"dialog": ["a", "b"]}\n\n{"dialog": ["c", "d"]}\n')

    rows = rows_of(path)

    assert rows == [RawRow({"dialog": ["a", "b"]}, 1), RawRow({"dialog": ["c", "d"]}, 3)]


@pytest.mark.parametrize(
    "first",
    [{"id": 3, "dialog": ["a", "b"]}, {"tags": ["x"], "messages": []}, {"messages": [{"role": 1}]}],
)
def test_json_lines_are_told_from_an_object_with_parts(tmp_path: Path, first: Any) -> None:
    path = write(tmp_path, json.dumps(first) + "\n" + json.dumps(first))

    rows = rows_of(path)

    assert [row.value for row in rows] == [first, first]


def test_a_list_gives_each_row_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, '[\n["a", "b"],\n\n["c",\n "d"], ["e", "f"]\n]\n')

    rows = rows_of(path)

    assert [(row.value[0], row.line) for row in rows] == [("a", 2), ("c", 4), ("e", 5)]


def test_an_object_with_parts_gives_the_part_asked_for(tmp_path: Path) -> None:
    text = '{"valid": [["v", "w"]],\n"train": [\n["a", "b"]], "test": []}'

    path = write(tmp_path, text)

    assert rows_of(path) == [RawRow(["a", "b"], 3)]
    assert rows_of(path, "valid") == [RawRow(["v", "w"], 1)]
    assert rows_of(path, "test") == []


def test_parts_may_stand_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, '{"train":[{"messages":[]},{"messages":[]}]}')

    rows = rows_of(path)

    assert [row.value for row in rows] == [{"messages": []}] * 2


def test_a_file_longer_than_the_buffer_is_read_whole(tmp_path: Path) -> None:
    dialogues = [[f"u{number}", "长" * (number % 700)] for number in range(500)]
    dialogues.append(["long", "x" * (3 * READ_BYTES)])
    path = write(tmp_path, json.dumps({"train": dialogues}, ensure_ascii=False, indent=0))

    rows = rows_of(path)

    assert [row.value for row in rows] == dialogues
    lines = path.read_text().splitlines()
    assert all(lines[row.line - 1] == "[" for row in rows)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + b'{"dialog": ["a", "b"]}\n')

    assert rows_of(path) == [RawRow({"dialog": ["a", "b"]}, 1)]


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ('{"dialog": ["a", "b"]}\n{"dialog": ["a" "b"]}\n', 2, "delimiter"),
        ('{"dialog": ["a"]}\n\n{"dialog": [', 3, "malformed JSON"),
        ('[["a", "b"],\n["c", d]]', 2, "Expecting value"),
        ('[["a", "b"]\n["c", "d"]]', 2, "expected ']'"),
        ('[["a", "b"]', 1, "end of the file"),
        ('{"train": [["a", "b"]],\n"valid": [["c" "d"]]}', 2, "delimiter"),
        ('{"train": [["a", "b"]]}\n\nrest', 3, "follows"),
        ("hello", 1, "expected"),
        ("", 1, "empty"),
        ("\n \n", 1, "empty"),
        (b'[["a", "b"],\n["\xff\xfe"]]', 2, "UTF-8"),
        (b'{"dialog": ["a"]}\n{"dialog": ["\xff"]}', 2, "UTF-8"),
        ("[" * 100_000, 1, "deeply"),
    ],
)
def test_broken_json_names_file_and_line(
    tmp_path: Path, text: str | bytes, line: int, part: str
) -> None:
    path = write(tmp_path, text)

    with pytest.raises(RunFailed) as caught:
        rows_of(path)

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert part in str(caught.value)


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    path = write(tmp_path, '{"valid": [["a", "b"]], "test": []}')

    with pytest.raises(RunFailed, match=r"no part 'train'; it has: valid, test"):
        rows_of(path)


def test_a_part_of_a_file_without_parts_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '[["a", "b"]]')

    with pytest.raises(RunFailed, match="has no parts"):
        rows_of(path, "valid")
