"""Finds the rows in a data file, whatever kind it is, without loading it.

Owns how the kinds are told apart: by what is in the file, not by its name.
Refuses files of other kinds, and what the readers of the kinds refuse
(RunFailed, DATASET_INVALID, with file and line). What a row means is
dialogue.py's to say.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from trainer_svc.child.dialogue import known_fields
from trainer_svc.child.json_rows import UTF8_MARK, json_rows, no_parts
from trainer_svc.child.json_stream import JsonBroken
from trainer_svc.child.raw_row import RawRow, RowStream, data_failure
from trainer_svc.child.tables import PARQUET_MARK, csv_rows, find_delimiter, parquet_rows

__all__ = ["RawRow", "data_failure", "read_rows"]

# Enough for the header of any table made for training.
HEAD_BYTES = 64 << 10
# Files that people hand in by mistake, by how they begin.
OTHERS: Mapping[bytes, str] = {
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
}


def read_rows(path: Path, split: str, default_split: str) -> RowStream:
    """The rows of `path`, in order. `split` is the part asked for, "" for the default one. A row
    that cannot be read, where the next one can, is a broken RawRow."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if _is_json(head):
            yield from _json_rows(path, file, split, default_split)
            return
        _refuse_others(path, head)
        if split:
            raise no_parts(path, split)
        if head.startswith(PARQUET_MARK):
            yield from parquet_rows(path)
            return
        delimiter = find_delimiter(head)
        if delimiter is None:
            raise data_failure(
                f"{path}:1: expected JSON, Parquet, or the header of a CSV with {known_fields()}"
            )
        yield from csv_rows(path, file, delimiter)


def _json_rows(path: Path, file: BinaryIO, split: str, default_split: str) -> Iterator[RawRow]:
    try:
        yield from json_rows(path, file, split, default_split)
    except JsonBroken as error:
        raise data_failure(f"{path}:{error.line}: malformed JSON: {error.reason}") from None


def _is_json(head: bytes) -> bool:
    return head.removeprefix(UTF8_MARK).lstrip()[:1] in (b"{", b"[")


def _refuse_others(path: Path, head: bytes) -> None:
    if not head.removeprefix(UTF8_MARK).strip():
        raise data_failure(f"{path}:1: the file is empty", "Give a data set with rows.")
    for mark, what in OTHERS.items():
        if head.startswith(mark):
            raise data_failure(f"{path} is {what}", "Give JSON, JSON Lines, CSV or Parquet.")
