"""Finding rows in JSON of every shape, and naming the line of what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_svc.child.asked import Asked
from trainer_svc.child.data_rows import RawRow, read_rows
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.json_stream import READ_BYTES, VALUE_CHARS_MAX


def rows_of(path: Path, split: str = "") -> list[RawRow]:
    return list(read_rows(path, Asked(split)))


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


@pytest.mark.parametrize(
    "first",
    [
        {"tools": [], "messages": [{"role": 1}]},
        {"tags": [["x"]], "messages": []},
        {"tags": [["x"], ["y"]], "id": 3, "more": [], "dialog": ["a", "b"]},
    ],
)
def test_a_list_before_a_rows_own_fields_is_no_part(tmp_path: Path, first: Any) -> None:
    path = write(tmp_path, json.dumps(first) + "\n" + json.dumps(first))

    rows = rows_of(path)

    assert [row.value for row in rows] == [first, first]


def test_a_part_longer_than_a_line_can_be_is_a_part(tmp_path: Path) -> None:
    row = ["a" * 1_000, "b"]
    count = VALUE_CHARS_MAX // 1_000 + 1
    path = write(tmp_path, json.dumps({"train": [row] * count, "valid": [["v", "w"]]}))

    rows = rows_of(path)

    assert len(rows) == count
    assert [row.value for row in rows_of(path, "valid")] == [["v", "w"]]


def test_a_list_gives_each_row_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, '[\n["a", "b"],\n\n["c",\n "d"], ["e", "f"]\n]\n')

    rows = rows_of(path)

    assert [(row.value[0], row.line) for row in rows] == [("a", 2), ("c", 4), ("e", 5)]


def test_an_object_with_parts_gives_the_part_asked_for(tmp_path: Path) -> None:
    text = '{"valid": [["v", "w"]],\n"train": [\n["a", "b"]], "test": []}'

    path = write(tmp_path, text)

    assert rows_of(path) == [RawRow(["a", "b"], 3, part="train")]
    assert rows_of(path, "valid") == [RawRow(["v", "w"], 1, part="valid")]
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
        ('[["a", "b"],\n["c", d]]', 2, "Expecting value"),
        ('[["a", "b"]\n["c", "d"]]', 2, "expected ']'"),
        ('[["a", "b"]', 1, "end of the file"),
        ('{"train": [["a", "b"]],\n"valid": [["c" "d"]]}', 2, "delimiter"),
        ('{"train": [["a", "b"]]}\n\nrest', 3, "follows"),
        ("hello", 1, "expected"),
        ("", 1, "empty"),
        ("\n \n", 1, "empty"),
        (b'[["a", "b"],\n["\xff\xfe"]]', 2, "UTF-8"),
        ("[" * 100_000, 1, "deeply"),
        ("[[" + "1" * 5_000 + "]]", 1, "digits"),
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


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        (b'{"dialog": ["a" "b"]}', "delimiter"),
        (b'{"dialog": [', "malformed JSON"),
        (b'{"dialog": ["\xff"]}', "not UTF-8"),
        (b"[" * 100_000, "deeply"),
        (b"[" + b"1" * 5_000 + b"]", "digits"),
        (b'{"id": ' + b"1" * VALUE_CHARS_MAX + b"}", f"{VALUE_CHARS_MAX} bytes or more"),
    ],
)
def test_a_broken_line_of_json_lines_is_one_broken_row(
    tmp_path: Path, broken: bytes, part: str
) -> None:
    sound = b'{"id": 3, "dialog": ["a", "b"]}\n'
    path = write(tmp_path, sound + b"\n" + broken + b"\n" + sound)

    rows = rows_of(path)

    assert [row.line for row in rows] == [1, 3, 4]
    assert part in rows[1].broken
    assert rows[0].value == rows[2].value == {"id": 3, "dialog": ["a", "b"]}


@pytest.mark.parametrize(
    "first",
    ['{"messages": [', '{"id" 3}', "{id: 3}", '{"prompt": [{"role" }'],
)
def test_a_broken_first_line_is_no_object_with_parts(tmp_path: Path, first: str) -> None:
    path = write(tmp_path, f'{first}\n{{"messages": []}}\n')

    rows = rows_of(path)

    assert [bool(row.broken) for row in rows] == [True, False]


@pytest.mark.parametrize(
    "first",
    [
        {"history": [["q", "a"]], "instruction": "i", "output": "o"},
        {"prompt": [{"role": "user", "content": "q"}], "completion": []},
        {"embedding": [[0.5]], "text": "t"},
        {"tools": [{"type": "function"}], "messages": []},
    ],
)
def test_a_field_with_a_list_is_no_part(tmp_path: Path, first: Any) -> None:
    path = write(tmp_path, json.dumps(first) + "\n")

    assert rows_of(path) == [RawRow(first, 1)]


@pytest.mark.parametrize(
    ("begin", "what"),
    [
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"PK\x03\x04rest", "spreadsheet"),
        ("[]".encode("utf-16"), "UTF-16"),
        (b"ARROW1\0\0", "Parquet"),
        (b"name,age\nx,3\n", 'CSV with one of the keys "messages"'),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, begin: bytes, what: str) -> None:
    path = write(tmp_path, begin)

    with pytest.raises(RunFailed, match=what) as caught:
        rows_of(path)

    assert str(caught.value).startswith(str(path))


@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["messages", "text", "id", "images", "history"]),
            st.recursive(
                st.text(max_size=20) | st.integers() | st.none(),
                lambda inner: st.lists(inner, max_size=3),
            ),
            min_size=1,
        ),
        min_size=1,
        max_size=8,
    ),
    space=st.sampled_from(["\n", "\n\n", "\r\n", "\n \n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
@settings(max_examples=60, deadline=None)
def test_whatever_rows_are_written_as_json_lines_are_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], space: str, mark: bytes
) -> None:
    path = tmp_path_factory.mktemp("lines") / "data.jsonl"
    # The key tells it from an object with parts, whose name could be any.
    lines = [json.dumps({"text": "", **row}) for row in rows]
    path.write_bytes(mark + space.join(lines).encode())

    read = rows_of(path)

    assert [row.value for row in read] == [{"text": "", **row} for row in rows]
    assert [path.read_text("utf-8-sig").split("\n")[row.line - 1].strip() for row in read] == lines


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    path = write(tmp_path, '{"valid": [["a", "b"]], "test": []}')

    with pytest.raises(RunFailed, match=r"no part 'train'; it has: valid, test"):
        rows_of(path)


def test_a_part_of_a_file_without_parts_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '[["a", "b"]]')

    with pytest.raises(RunFailed, match="has no parts"):
        rows_of(path, "valid")
