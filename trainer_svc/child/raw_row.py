"""A row as it stands in its file, before anybody asks what it means.

Owns how a row's place is said. Every reader makes RawRows; what is wrong with
one row alone is said in it, so that the reader decides whether to continue.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from trainer_svc.child.failure import Cause, RunFailed


@dataclass(frozen=True)
class RawRow:
    """One row. `line` is where it begins, from 1; `unit` is "row " in files without lines.
    `broken` says what is wrong when it cannot be read; then there is no value. `unread` are the
    columns of its table that are not read, `part` is the part of its file that it stands in."""

    value: Any
    line: int
    unit: str = ""
    broken: str = ""
    unread: tuple[str, ...] = ()
    part: str = ""

    def place(self, file: str) -> str:
        """Where it is, with the name of its file ("file.jsonl:17", "file.parquet:row 17")."""
        return f"{file}:{self.unit}{self.line}"


RowStream = Generator[RawRow, None, None]
"""Rows as they are read; closing it closes the file."""


def data_failure(message: str, hint: str = "Correct the data file.") -> RunFailed:
    """A failure of the data set."""
    return RunFailed(Cause.DATASET_INVALID, message, hint)
