"""Compressed files, and plain text files."""

import bz2
import gzip
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs
import pytest

from trainer_svc.child.asked import Asked
from trainer_svc.child.compressed import Damaged, open_data
from trainer_svc.child.data_rows import RawRow, read_rows
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.json_stream import VALUE_CHARS_MAX
from trainer_svc.child.rows.formats import RowFormat


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def in_two(content: bytes) -> bytes:
    """As `cat a.gz b.gz` makes it."""
    half = len(content) // 2
    return gzip.compress(content[:half]) + gzip.compress(content[half:])


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "parts.gz": in_two,
}  # fmt: skip


def rows_of(path: Path, **asked: Any) -> list[RawRow]:
    return list(read_rows(path, Asked(**asked)))


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"text": "a"}\n\n{"text": "b"}\n', 3),
        ('[\n{"text": "a"},\n{"text": "b"}]', 3),
        ('{"train": [{"text": "a"},\n{"text": "b"}]}', 2),
        ("id,text\n1,a\n2,b\n", 3),
        ('{\n "text": "a"\n}\n{\n "text": "b"\n}\n', 4),
    ],
)
def test_a_compressed_file_is_read_as_what_it_holds(
    tmp_path: Path, kind: str, content: str, line: int
) -> None:
    path = tmp_path / f"data.{kind}"
    path.write_bytes(COMPRESS[kind](content.encode()))

    rows = rows_of(path)

    assert [row.value for row in rows] == [{"text": "a"}, {"text": "b"}]
    assert rows[1].place(str(path)) == f"{path}:{line}"


@pytest.mark.parametrize("kind", ["gz", "zst", "bz2"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_cut_off_archive_is_named(tmp_path: Path, kind: str, kept: float) -> None:
    rows = b"".join(b'{"text": "%d"}\n' % (number * number) for number in range(50_000))
    whole = COMPRESS[kind](rows)
    path = tmp_path / f"data.jsonl.{kind}"
    path.write_bytes(whole[: int(len(whole) * kept)])

    with pytest.raises(RunFailed, match=rf"{path}: its \w+ compression is damaged") as caught:
        rows_of(path)

    assert caught.value.hint == "Copy the file again."


def test_a_row_that_unpacks_to_too_much_is_bounded_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    row = b'{"text": "' + b"a" * (12 * VALUE_CHARS_MAX) + b'"}\n'
    path.write_bytes(gzip.compress(row + b'{"text": "b"}\n'))
    del row
    tracemalloc.start()

    rows = rows_of(path)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == [
        RawRow(None, 1, broken=f"a line of {VALUE_CHARS_MAX} bytes or more"),
        RawRow({"text": "b"}, 2),
    ]
    assert peak < 6 * VALUE_CHARS_MAX  # of a row of 12


def test_only_the_beginning_can_be_gone_back_to(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"abc" * 1_000_000))

    with open_data(path) as file:
        first = file.read(2_000_000)
        file.seek(0)

        assert file.read(2_000_000) == first
    with pytest.raises(OSError, match="only the beginning"), open_data(path) as file:
        file.seek(2_000_000)
    with pytest.raises(Damaged):
        path.write_bytes(path.read_bytes()[:20])
        open_data(path).read()


def test_what_an_archive_holds_may_be_refused(tmp_path: Path) -> None:
    parquet, packed, tar = (tmp_path / name for name in ("a.parquet", "a.parquet.gz", "a.tar.gz"))
    pq.write_table(pa.table({"text": ["a"]}), parquet)
    packed.write_bytes(gzip.compress(parquet.read_bytes()))
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(parquet, "a.parquet")
    empty = tmp_path / "empty.gz"
    empty.write_bytes(gzip.compress(b""))

    for path, words in (
        (packed, "is a Parquet file in gzip"),
        (tar, "is a tar archive: unpack it"),
        (empty, "the file is empty"),
    ):
        with pytest.raises(RunFailed, match=words):
            rows_of(path)


@pytest.mark.parametrize("name", ["wiki.txt", "wiki.TXT.gz"])
def test_a_text_file_has_a_row_a_line(tmp_path: Path, name: str) -> None:
    content = b"First line, with a comma.\r\n\n  \n[1] a note\nlast"
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    assert rows_of(path) == [
        RawRow({"text": "First line, with a comma."}, 1),
        RawRow({"text": "[1] a note"}, 4),
        RawRow({"text": "last"}, 5),
    ]


def test_text_of_any_name_is_read_where_the_job_says_so(tmp_path: Path) -> None:
    path = tmp_path / "LICENSE"
    path.write_text("once upon\na time")

    with pytest.raises(RunFailed, match="expected JSON") as caught:
        rows_of(path)

    assert "format text" in caught.value.hint
    assert len(rows_of(path, row_format=RowFormat.TEXT)) == 2


@pytest.mark.parametrize(
    "content",
    ['{"text": "a"}\n', '[\n{"text": "a"}]', '{\n"text": "a"}', "id,text\n1,a\n"],
)
def test_rows_in_a_file_that_is_called_txt_are_rows(tmp_path: Path, content: str) -> None:
    path = tmp_path / "data.txt"
    path.write_text(content)

    assert [row.value for row in rows_of(path)] == [{"text": "a"}]


def test_a_text_that_begins_like_json_is_text(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("{once} upon\n[a] time\n")

    assert [row.value for row in rows_of(path)] == [{"text": "{once} upon"}, {"text": "[a] time"}]


def test_a_line_that_is_not_utf8_is_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"good\nb\xe4d\n")

    assert rows_of(path)[1] == RawRow(None, 2, broken="not UTF-8 (save the file as UTF-8)")


def test_a_part_of_a_file_without_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("a\n")

    with pytest.raises(RunFailed, match="has no parts"):
        rows_of(path, split="test")


def test_an_object_over_several_lines_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"messages": [], "id": 1}, indent=2) + "\n\n" + '{"text":\n"b"}')

    rows = rows_of(path)

    assert [(row.line, row.value) for row in rows] == [
        (1, {"messages": [], "id": 1}),
        (6, {"text": "b"}),
    ]


def test_settings_are_not_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "dataset_info.json"
    path.write_text(json.dumps({"one": {"file_name": "a"}, "two": {"file_name": "b"}}, indent=1))

    with pytest.raises(RunFailed, match=r":1: an object with 2 objects in it \(one, two\)"):
        rows_of(path)


def test_a_broken_first_line_is_one_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a\n{"text": "b"}\n')

    rows = rows_of(path)

    assert [bool(row.broken) for row in rows] == [True, False]


@pytest.mark.parametrize(
    "rows", [[{"question": "q", "answer": "a"}], [{"text": "a"}], [["a", "b"]]]
)
def test_the_only_part_is_taken_whatever_its_name(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": rows}, indent=1))

    read = rows_of(path)

    assert [(row.value, row.part) for row in read] == [(row, "data") for row in rows]


@pytest.mark.parametrize("names", [["test"], ["a", "b"], ["Validation"]])
def test_a_part_that_may_be_another_is_not(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({name: [{"text": "a"}] for name in names}))

    with pytest.raises(RunFailed, match="has no part 'train'") as caught:
        rows_of(path)

    assert f'--data "FILE,split={names[0]}"' in caught.value.hint
    assert len(rows_of(path, split=names[0])) == 1
