"""Finds the rows in a data file, whatever kind it is, without loading it.

Owns how the kinds are told apart: by what is in the file, not by its name; only
plain text is known by its name (.txt), or by the job's format. Compressed files
are read as what they hold. Refuses files of other kinds, and what the readers of
the kinds refuse (RunFailed, DATASET_INVALID, with file and line). What a row
means is said in rows/.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from trainer_svc.child.asked import Asked
from trainer_svc.child.compressed import Damaged, codec_of, open_data
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.json_rows import json_rows, no_parts, parse_json
from trainer_svc.child.json_stream import JsonBroken
from trainer_svc.child.raw_row import RawRow, RowStream, data_failure
from trainer_svc.child.rows.formats import RowFormat, known_fields
from trainer_svc.child.rows.layout import header_fault
from trainer_svc.child.tables import (
    PARQUET_MARK,
    csv_rows,
    find_delimiter,
    header_of,
    parquet_rows,
)
from trainer_svc.child.text_rows import UTF8_MARK, text_rows

__all__ = ["Asked", "RawRow", "data_failure", "read_rows"]

# Enough for the header of any table made for training.
HEAD_BYTES = 64 << 10
# Files that people give by mistake, by how they begin.
OTHERS: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"\xfd7zXZ": "an xz archive: unpack it",
    b"\x04\x22\x4d\x18": "an lz4 archive: unpack it",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
}
TAR_MARK, TAR_MARK_AT = b"ustar", 257
TEXT_NAMES = (".txt", ".text")
COMPRESSED_NAMES = (".gz", ".zst", ".zstd", ".bz2")


def read_rows(path: Path, asked: Asked) -> RowStream:
    """The rows of `path`, in order. A row that cannot be read, where the next one can, is a
    broken RawRow. Raises RunFailed."""
    try:
        with open_data(path) as file:
            yield from _rows(path, file, asked)
    except Damaged as error:
        raise data_failure(f"{path}: {error}", "Copy the file again.") from None


def _rows(path: Path, file: BinaryIO, asked: Asked) -> Iterator[RawRow]:
    head = file.read(HEAD_BYTES)
    file.seek(0)
    is_text = _is_text_file(path, head, asked)
    if _is_json(head) and not is_text:
        yield from _json_rows(path, file, asked)
        return
    _refuse_others(path, head)
    if asked.split:
        raise no_parts(path, asked.split)
    if head.startswith(PARQUET_MARK):
        _require_uncompressed(path)
        yield from parquet_rows(path, asked)
        return
    delimiter = None if is_text else find_delimiter(head, asked)
    if delimiter is not None:
        yield from csv_rows(path, file, delimiter, asked)
        return
    if not is_text:
        raise _not_a_table(path, head, asked)
    yield from text_rows(file)


def _json_rows(path: Path, file: BinaryIO, asked: Asked) -> Iterator[RawRow]:
    try:
        yield from json_rows(path, file, asked)
    except JsonBroken as error:
        raise data_failure(f"{path}:{error.line}: malformed JSON: {error.reason}") from None


def _is_json(head: bytes) -> bool:
    return head.removeprefix(UTF8_MARK).lstrip()[:1] in (b"{", b"[")


def _is_text_file(path: Path, head: bytes, asked: Asked) -> bool:
    """Whether it is plain text: by its name, or for nothing else is in it and the job says so.
    JSON, and a table with a header of several columns, is that under any name."""
    if head.startswith((PARQUET_MARK, *OTHERS)):
        return False
    if _is_json(head):
        return _is_named_text(path) and not _begins_json(head)
    is_table = find_delimiter(head, asked) is not None
    if _is_named_text(path):
        return not (is_table and len(header_of(head)) > 1)
    return asked.row_format is RowFormat.TEXT and not is_table


def _is_named_text(path: Path) -> bool:
    name = path.name.lower()
    for ending in COMPRESSED_NAMES:
        name = name.removesuffix(ending)
    return name.endswith(TEXT_NAMES)


def _begins_json(head: bytes) -> bool:
    """Whether the first line is JSON, or the beginning of some over several lines."""
    line = head.removeprefix(UTF8_MARK).lstrip().partition(b"\n")[0].strip()
    if line in (b"[", b"{"):
        return True
    _, problem = parse_json(line.decode(errors="replace"))
    return not problem


def _require_uncompressed(path: Path) -> None:
    if codec := codec_of(path):
        raise data_failure(f"{path} is a Parquet file in {codec}", "Unpack it.")


def _not_a_table(path: Path, head: bytes, asked: Asked) -> RunFailed:
    if asked.columns:
        return data_failure(f"{path}:1: {header_fault(header_of(head), asked.columns)}")
    return data_failure(
        f"{path}:1: expected JSON, Parquet, or the header of a CSV with {known_fields()}",
        "Correct the data file. Plain text is read a row a line: give it the format text, or a"
        " name that ends in .txt.",
    )


def _refuse_others(path: Path, head: bytes) -> None:
    if not head.removeprefix(UTF8_MARK).strip():
        raise data_failure(f"{path}:1: the file is empty", "Give a data set with rows.")
    given = "Give JSON, JSON Lines, CSV, Parquet or plain text."
    for mark, what in OTHERS.items():
        if head.startswith(mark):
            raise data_failure(f"{path} is {what}", given)
    if head[TAR_MARK_AT:].startswith(TAR_MARK):
        raise data_failure(f"{path} is a tar archive: unpack it", given)
