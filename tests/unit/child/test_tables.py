"""Finding rows in CSV and Parquet, with the place of each."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.child.launching import call_warm
from trainer_svc.child.asked import Asked
from trainer_svc.child.data_rows import RawRow, read_rows
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.json_stream import VALUE_CHARS_MAX
from trainer_svc.child.tables import REPEATED_BYTES, ROW_BYTES_MAX

pytestmark = pytest.mark.filterwarnings("default")

CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def rows_of(path: Path, split: str = "") -> list[RawRow]:
    return list(read_rows(path, Asked(split)))


def write_csv(path: Path, header: list[str], *records: list[str], **form: Any) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **form).writerows([header, *records])
    return path


def write_parquet(path: Path, columns: dict[str, Any], **form: Any) -> Path:
    pq.write_table(pa.table(columns), path, **form)
    return path


def test_a_csv_gives_each_row_with_the_line_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text(
        'instruction,input,output,id\n"one\ntwo ""quoted""\n",,"a, b",7\n\nq,i,o,8\n',
        encoding="utf-8",
    )

    rows = rows_of(path)

    assert rows == [
        RawRow(
            {"instruction": 'one\ntwo "quoted"\n', "input": "", "output": "a, b"}, 2, unread=("id",)
        ),
        RawRow({"instruction": "q", "input": "i", "output": "o"}, 6, unread=("id",)),
    ]
    assert rows[1].place("data.csv") == "data.csv:6"


@pytest.mark.parametrize("name", ["data.csv", "data.txt", "data.json"])
def test_a_csv_is_known_by_its_header_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = write_csv(tmp_path / name, ["id", "text"], ["1", "once"])

    assert rows_of(path) == [RawRow({"text": "once"}, 2, unread=("id",))]


@pytest.mark.parametrize(("delimiter", "end"), [(",", "\r\n"), (";", "\n"), ("\t", "\n")])
def test_spreadsheets_write_csv_in_their_own_ways(tmp_path: Path, delimiter: str, end: str) -> None:
    path = write_csv(
        tmp_path / "data.csv",
        ["prompt", "completion"],
        ["a, b", "c; d"],
        delimiter=delimiter,
        lineterminator=end,
    )
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert rows_of(path) == [RawRow({"prompt": "a, b", "completion": "c; d"}, 2)]


def test_lists_in_cells_are_json(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "data.csv",
        ["messages", "images"],
        [json.dumps(CHAT), '["a.png", "b.png"]'],
        [json.dumps(CHAT), "a, b.png"],
        ["", ""],
        ["[{'role': 'user'}]", ""],
    )

    rows = rows_of(path)

    assert [row.value for row in rows[:3]] == [
        {"messages": CHAT, "images": ["a.png", "b.png"]},
        {"messages": CHAT, "images": "a, b.png"},
        {"messages": None, "images": ""},
    ]
    assert rows[3].broken.startswith("column 'messages': malformed JSON")


def test_a_prompt_in_a_cell_is_a_list_only_if_it_is_one_of_messages(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "data.csv",
        ["prompt", "completion"],
        [json.dumps(CHAT), json.dumps(CHAT[1:])],
        ["[INST] hi [/INST]", '[{"a": 1}]'],
    )

    rows = rows_of(path)

    assert rows[0].value == {"prompt": CHAT, "completion": CHAT[1:]}
    assert rows[1].value == {"prompt": "[INST] hi [/INST]", "completion": '[{"a": 1}]'}


def test_a_record_of_another_width_and_one_that_is_no_utf8_are_broken_rows(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b"instruction,output\na,b\na\na,b,c\n\xff,b\na,b\n")

    rows = rows_of(path)

    assert [row.line for row in rows if not row.broken] == [2, 6]
    broken = [row for row in rows if row.broken]
    assert [row.line for row in broken] == [3, 4, 5]
    assert "expected 2 cells, as in the header, found 1" in broken[0].broken
    assert "found 3" in broken[1].broken
    assert "not UTF-8" in broken[2].broken


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('text\nok\n"a" b\n', ":3: malformed CSV: "),
        ('text\nok\n"a\nb\nc\n', ":3: malformed CSV: unexpected end of data"),
        ("text,a,text\nx,y,z\n", ":1: the header names text more than once"),
        ("text\r" + "x\r" * 9, ":1: malformed CSV: "),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
    ],
)
def test_a_csv_whose_rows_cannot_be_told_apart_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text, newline="")

    with pytest.raises(RunFailed) as caught:
        rows_of(path)

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["x" * 70, "x" * VALUE_CHARS_MAX])
def test_a_record_without_end_is_refused_where_it_begins(tmp_path: Path, line: str) -> None:
    path = tmp_path / "data.csv"
    with path.open("w") as file:
        file.write('text\nok\n"')
        file.writelines(f"{line}\n" for _ in range(VALUE_CHARS_MAX // len(line) + 1))

    with pytest.raises(RunFailed, match=r":3: a record of \d+ bytes or more"):
        rows_of(path)


@given(
    records=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"))] * 3),
        min_size=1,
        max_size=6,
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    delimiter=st.sampled_from(",;\t"),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
@settings(max_examples=80, deadline=None)
def test_whatever_texts_are_written_as_csv_are_read(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str, str]],
    quoting: Any,
    delimiter: str,
    mark: bytes,
) -> None:
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, delimiter=delimiter)
    writer.writerows([("instruction", "input", "output"), *records])
    path.write_bytes(mark + text.getvalue().encode())

    rows = rows_of(path)

    names = ("instruction", "input", "output")
    assert [row.value for row in rows] == [dict(zip(names, one, strict=True)) for one in records]
    assert rows[0].line == 2
    before = text.getvalue().encode().split(b"\n")
    for row in rows[1:]:
        assert before[row.line - 2].endswith(b"\r")  # the record before ended there


def test_parquet_gives_each_row_with_its_number(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "data.parquet",
        {"id": [1, 2, 3], "text": ["a", None, "c"]},
        row_group_size=2,
    )

    rows = rows_of(path)

    assert [row.value for row in rows] == [{"text": "a"}, {"text": None}, {"text": "c"}]
    assert rows[2].place("file.parquet") == "file.parquet:row 3"


def test_parquet_is_known_by_its_content(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data.jsonl", {"text": ["a"]})

    assert rows_of(path) == [RawRow({"text": "a"}, 1, "row ")]


def test_lists_in_parquet_are_native_or_json(tmp_path: Path) -> None:
    native = write_parquet(tmp_path / "native.parquet", {"messages": [CHAT], "n": [1]})
    text = write_parquet(tmp_path / "text.parquet", {"messages": [json.dumps(CHAT)]})
    history = write_parquet(
        tmp_path / "history.parquet",
        {"instruction": ["q"], "output": ["a"], "history": [[["x", "y"]]]},
    )

    assert rows_of(native)[0].value == rows_of(text)[0].value == {"messages": CHAT}
    assert rows_of(history)[0].value["history"] == [["x", "y"]]


def test_a_parquet_row_that_is_no_utf8_is_a_broken_row(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff\xfe", b"c"], pa.binary()).view(pa.string())
    path = write_parquet(tmp_path / "data.parquet", {"text": texts})

    rows = rows_of(path)

    assert [row.broken for row in rows] == ["", "not UTF-8", ""]
    assert rows[2].value == {"text": "c"}


def test_a_parquet_row_without_bounds_is_a_broken_row(tmp_path: Path) -> None:
    texts = ["a", "x" * (ROW_BYTES_MAX + 1), "c"]
    path = write_parquet(tmp_path / "data.parquet", {"text": texts}, compression="zstd")

    rows = rows_of(path)

    assert [bool(row.broken) for row in rows] == [False, True, False]
    assert f"more than {ROW_BYTES_MAX} bytes" in rows[1].broken


def damaged(data: bytes, how: str) -> bytes:
    if how == "cut":
        return data[: len(data) // 2]
    if how == "head only":
        return b"PAR1"
    middle = len(data) // 3
    return data[:middle] + bytes(255 - one for one in data[middle : middle + 64]) + data[
        middle + 64 :
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["cut", "head only", "spoilt"])
def test_a_damaged_parquet_file_is_refused_with_the_reason(tmp_path: Path, how: str) -> None:
    texts = [f"text {number * 7919 % 1000}" for number in range(2_000)]
    path = write_parquet(tmp_path / "data.parquet", {"text": texts}, compression="zstd")
    path.write_bytes(damaged(path.read_bytes(), how))

    with pytest.raises(RunFailed) as caught:
        rows_of(path)

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(caught.value).startswith(f"{path}: malformed Parquet: ")
    assert "\n" not in str(caught.value)


def test_parquet_without_a_known_column_names_those_it_has(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data.parquet", {"title": ["q"], "body": ["a"]})

    with pytest.raises(RunFailed, match="found the columns title, body"):
        rows_of(path)


@pytest.mark.parametrize("name", ["data.csv", "data.parquet"])
def test_a_table_has_no_parts(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("csv"):
        write_csv(path, ["text"], ["a"])
    else:
        write_parquet(path, {"text": ["a"]})

    with pytest.raises(RunFailed, match="has no parts"):
        rows_of(path, "valid")


def growth_bytes(path: Path) -> tuple[int, int]:
    """How much anonymous memory grew at most while `path` was read, and rows."""

    def anonymous() -> int:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024

    before = peak = anonymous()
    count = 0
    for count, _ in enumerate(read_rows(path, Asked()), start=1):
        if count % 100 == 0:
            peak = max(peak, anonymous())
    return peak - before, count


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    path = tmp_path / "data.parquet"
    with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        words = [f"{number:012x}" * 200 for number in range(40_000)]
        writer.write_table(pa.table({"text": words}, schema), row_group_size=10**9)
    del words
    assert pq.read_metadata(path).num_row_groups == 1

    growth, rows = call_warm(growth_bytes, path)

    assert rows == 40_000
    assert growth < 48 << 20, growth  # the texts are 96 MB


def arrow_bytes_at_most(path: str) -> tuple[int, int]:
    """Rows, and the most that Arrow took to read them."""
    count = sum(1 for _ in read_rows(Path(path), Asked()))
    return count, int(pa.default_memory_pool().max_memory())


def test_a_long_value_that_stands_in_each_row_does_not_fill_the_memory(tmp_path: Path) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int8()), ["x" * (24 << 20)])
    path = write_parquet(
        tmp_path / "data.parquet", {"text": values}, store_schema=False, compression="zstd"
    )
    assert path.stat().st_size < 1 << 20

    count, most = call_warm(arrow_bytes_at_most, str(path))

    assert count == 40
    assert most < 4 * REPEATED_BYTES  # buffers that grow, twofold each time
