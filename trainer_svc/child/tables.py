"""Finds the rows in a table, CSV or Parquet, a few at a time.

Owns the way from cells to values: a cell that holds a list has it natively, in
Parquet, or as JSON text. Only columns that mean something are read; the others
are named. Refuses a CSV whose quoting is broken, because it is then unknown where
the next row begins, and a Parquet file that is damaged (RunFailed,
DATASET_INVALID). A row that alone is broken is given as such.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from trainer_svc.child.asked import Asked
from trainer_svc.child.json_rows import parse_json
from trainer_svc.child.json_stream import VALUE_CHARS_MAX
from trainer_svc.child.raw_row import RawRow, RowStream, data_failure
from trainer_svc.child.rows.layout import Columns, columns_read, header_fault
from trainer_svc.child.text_rows import NOT_UTF8, UTF8_MARK

PARQUET_MARK = b"PAR1"
DELIMITERS = ",;\t"
# Rows read from Parquet at a time: this many, or fewer if they are long.
BATCH_ROWS_MAX = 32
BATCH_BYTES = 8 << 20
# One long value may stand in all rows, written once: a batch of such rows has no more than this.
REPEATED_BYTES = 128 << 20
# A row of a Parquet file may have pictures in it.
ROW_BYTES_MAX = 64 << 20
READ_BYTES = 1 << 20
REASON_CHARS_MAX = 300
LIST_FIELDS = frozenset({"messages", "conversations", "conversation", "dialog", "history"})
TEXT_OR_MESSAGES = ("prompt", "completion")


def find_delimiter(head: bytes, asked: Asked) -> str | None:
    """What is between the columns of a CSV that begins with `head`, None if that is not a header
    of rows in a known format."""
    known = Asked(columns=asked.columns)  # a format that is given knows every header
    for delimiter in DELIMITERS:
        if _read_columns(_header_by(head, delimiter), known) is not None:
            return delimiter
    return None


def header_of(head: bytes) -> list[str]:
    """The header of a CSV that begins with `head`, by the delimiter that finds most columns."""
    return max((_header_by(head, one) for one in DELIMITERS), key=len)


def _header_by(head: bytes, delimiter: str) -> list[str]:
    text = head.removeprefix(UTF8_MARK).decode(errors="replace")
    try:
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _read_columns(names: Sequence[str], asked: Asked) -> list[str] | None:
    return columns_read(names, asked.row_format, asked.columns)


def csv_rows(path: Path, file: BinaryIO, delimiter: str, asked: Asked) -> Iterator[RawRow]:
    """The rows of a CSV file with a header; a row's line is where its record begins."""
    csv.field_size_limit(VALUE_CHARS_MAX)
    lines = _Lines(path, file)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    header: _Header | None = None
    while True:
        lines.begin_record()
        line = records.line_num + 1
        try:
            cells = next(records, None)
        except csv.Error as error:
            raise data_failure(f"{path}:{line}: malformed CSV: {error}") from None
        if cells is None:
            return
        if header is None:
            header = _Header(path, cells, asked)
        elif cells:  # an empty line is not a row
            yield header.row(cells, line, lines.is_utf8)


class _Lines:
    """The lines of a CSV file as strings; the limit is on all those of one record together."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._number = 0
        self._begin = 0
        self._record_bytes = 0
        self.is_utf8 = True

    def begin_record(self) -> None:
        self._begin = self._number + 1
        self._record_bytes = 0
        self.is_utf8 = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(VALUE_CHARS_MAX)
        if not line:
            raise StopIteration
        self._record_bytes += len(line)
        if self._record_bytes >= VALUE_CHARS_MAX:
            raise data_failure(
                f"{self._path}:{self._begin}: a record of {VALUE_CHARS_MAX} bytes or more;"
                " is a quotation mark not closed?"
            )
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(UTF8_MARK)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.is_utf8 = False
            return line.decode(errors="replace")


class _Header:
    """The header of a CSV file, and the rows below it."""

    def __init__(self, path: Path, cells: Sequence[str], asked: Asked) -> None:
        self._names = [cell.strip() for cell in cells]
        self._columns = asked.columns
        self._read = frozenset(_require_columns(f"{path}:1: ", self._names, asked))
        self._unread = tuple(name for name in self._names if name not in self._read)
        twice = sorted({name for name in self._read if self._names.count(name) > 1})
        if twice:
            raise data_failure(f"{path}:1: the header names {', '.join(twice)} more than once")

    def row(self, cells: Sequence[str], line: int, is_utf8: bool) -> RawRow:
        """The row of one record."""
        if not is_utf8:
            return RawRow(None, line, broken=f"malformed CSV: {NOT_UTF8}")
        if len(cells) != len(self._names):
            found = f"expected {len(self._names)} cells, as in the header, found {len(cells)}"
            return RawRow(None, line, broken=f"malformed CSV: {found}")
        named = zip(self._names, cells, strict=True)
        values = {name: cell for name, cell in named if name in self._read}
        return _row(values, line, columns=self._columns, unread=self._unread)


def _require_columns(place: str, names: Sequence[str], asked: Asked) -> list[str]:
    """Those that are read. Raises RunFailed."""
    read = _read_columns(names, asked)
    if read is None:
        raise data_failure(
            f"{place}{header_fault(names, asked.columns)}",
            "Name the columns by the fields of a format, or say what they are called with columns"
            ' (--data "FILE,instruction=question,output=answer").',
        )
    return read


def parquet_rows(path: Path, asked: Asked) -> Iterator[RawRow]:
    """The rows of a Parquet file; its row numbers are the places."""
    import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs

    try:
        # Without a pre-buffer: that would be all of a row group at once.
        with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
            names = file.schema_arrow.names
            read = _require_columns(f"{path}: ", names, asked)
            unread = tuple(name for name in names if name not in read)
            for number, row in enumerate(_parquet_values(file, read), start=1):
                if isinstance(row, str):
                    yield RawRow(None, number, "row ", broken=row)
                else:
                    yield _row(row, number, "row ", asked.columns, unread)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0][:REASON_CHARS_MAX]
        raise data_failure(f"{path}: malformed Parquet: {reason}") from None


def _parquet_values(file: Any, columns: Sequence[str]) -> Iterator[dict[str, Any] | str]:
    """Rows, and for each that cannot be read what is wrong with it."""
    for group in range(file.num_row_groups):
        batches = file.iter_batches(
            batch_size=_batch_rows(file.metadata.row_group(group)),
            row_groups=[group],
            columns=columns,
            use_threads=False,
        )
        for batch in batches:
            yield from batch_values(batch)


def _batch_rows(group: Any) -> int:
    size = sum(group.column(at).total_uncompressed_size for at in range(group.num_columns))
    row_bytes = max(1, size // max(1, group.num_rows))
    rows = min(BATCH_ROWS_MAX, BATCH_BYTES // row_bytes, REPEATED_BYTES // max(1, size))
    return int(max(1, rows))


def batch_values(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of an Arrow batch or table, and for each that cannot be read what is wrong."""
    one_by_one = batch.nbytes > ROW_BYTES_MAX
    if not one_by_one:
        with suppress(UnicodeDecodeError):  # some row's; to find out which
            values = batch.to_pylist()
            yield from values
            return
    for at in range(batch.num_rows):
        row = batch.slice(at, 1)
        if row.nbytes > ROW_BYTES_MAX:
            yield f"a row of more than {ROW_BYTES_MAX} bytes"
            continue
        try:
            yield row.to_pylist()[0]
        except UnicodeDecodeError:
            yield "not UTF-8"


def _row(
    cells: Mapping[str, Any],
    line: int,
    unit: str = "",
    columns: Columns | None = None,
    unread: tuple[str, ...] = (),
    part: str = "",
) -> RawRow:
    """The row in `cells`, lists that are written as JSON text read. `columns` says which fields
    of the format the cells are."""
    values = dict(cells)
    meant = {own: name for name, own in (columns or {}).items()}
    for name, cell in cells.items():
        if not isinstance(cell, str):
            continue
        field, problem = meant.get(name, name.lower()), ""
        if field in LIST_FIELDS or (field == "images" and cell.lstrip()[:1] in ("[", "{")):
            values[name], problem = parse_json(cell) if cell.strip() else (None, "")
        elif field in TEXT_OR_MESSAGES:
            values[name] = _messages_or_text(cell)
        if problem:
            return RawRow(None, line, unit, f"column {name!r}: {problem}", unread, part)
    return RawRow(values, line, unit, unread=unread, part=part)


def _messages_or_text(cell: str) -> Any:
    """A list of messages, if that is what the text says. Other JSON is a text like any other."""
    if not cell.lstrip().startswith("[{"):
        return cell
    value, problem = parse_json(cell)
    if problem or not all(
        isinstance(item, dict) and "role" in item and "content" in item for item in value
    ):
        return cell
    return value


def with_lists(rows: Iterator[RawRow], columns: Columns) -> RowStream:
    """Rows of a table that was read elsewhere (a hub's), lists written as JSON text read."""
    for row in rows:
        if isinstance(row.value, Mapping):
            yield _row(row.value, row.line, row.unit, columns, row.unread, row.part)
        else:
            yield row
