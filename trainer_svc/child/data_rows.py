"""Finds the rows in a data file, whatever shape it has, without loading it.

Owns the shapes: JSON Lines, a JSON list, an object with parts ("train", ...).
Refuses broken JSON, a part that does not exist and an empty file
(RunFailed, DATASET_INVALID, with file and line). What a row means is
dialogue.py's to say.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, BinaryIO

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.json_stream import VALUE_CHARS_MAX, JsonBroken, JsonCursor

ROW_KEYS = frozenset({"messages", "dialog"})


class Shape(Enum):
    """How the rows lie in a file."""

    LINES = auto()
    LIST = auto()
    PARTS = auto()


@dataclass(frozen=True)
class RawRow:
    """One row as it stands in the file. `line` is where it begins, from 1."""

    value: Any
    line: int


def data_failure(message: str, hint: str = "Correct the data file.") -> RunFailed:
    """A failure of the data set."""
    return RunFailed(Cause.DATASET_INVALID, message, hint)


def read_rows(path: Path, split: str, default_split: str) -> Iterator[RawRow]:
    """The rows of `path`, in order. `split` is the part asked for, "" for the default one."""
    try:
        with path.open("rb") as file:
            shape = find_shape(file)
            file.seek(0)
            if shape is not Shape.PARTS and split:
                raise data_failure(
                    f"{path} has no parts, so it has no {split!r}", "Leave out the split."
                )
            yield from _rows(path, file, shape, split or default_split)
    except JsonBroken as error:
        raise data_failure(f"{path}:{error.line}: malformed JSON: {error.reason}") from None


def _rows(path: Path, file: BinaryIO, shape: Shape, split: str) -> Iterator[RawRow]:
    if shape is Shape.LINES:
        yield from _lines(file)
        return
    cursor = JsonCursor(file)
    if shape is Shape.LIST:
        yield from _list(cursor)
    else:
        yield from _part(path, cursor, split)
    if cursor.peek():
        raise JsonBroken(cursor.line, "something follows the end of the document")


def find_shape(file: BinaryIO) -> Shape:
    """The shape, judged by the first bracket, key and value. Raises JsonBroken."""
    cursor = JsonCursor(file)
    first = cursor.peek()
    if first == "":
        raise JsonBroken(1, "the file is empty")
    if first == "[":
        return Shape.LIST
    if first != "{":
        raise JsonBroken(cursor.line, f"expected '{{' or '[', found {first!r}")
    cursor.take("{")
    if cursor.peek() != '"':
        return Shape.LINES
    return Shape.PARTS if _begins_part(cursor) else Shape.LINES


def _begins_part(cursor: JsonCursor) -> bool:
    """Whether the key and value that follow are a part's name and its list of rows."""
    with suppress(JsonBroken):  # then the reader of the shape says what is wrong, and where
        if cursor.value() in ROW_KEYS:
            return False
        cursor.take(":")
        if cursor.peek() != "[":
            return False
        cursor.take("[")
        if cursor.peek() == "]":
            return True
        row = cursor.value()
        return isinstance(row, list) or (isinstance(row, dict) and not ROW_KEYS.isdisjoint(row))
    return True


def _lines(file: BinaryIO) -> Iterator[RawRow]:
    number = 0
    while line := file.readline(VALUE_CHARS_MAX):
        number += 1
        if len(line) == VALUE_CHARS_MAX:
            raise JsonBroken(number, f"a line of {VALUE_CHARS_MAX} bytes or more")
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not text.strip():
            continue
        try:
            yield RawRow(json.loads(text), number)
        except UnicodeDecodeError:
            raise JsonBroken(number, "not UTF-8") from None
        except json.JSONDecodeError as error:
            raise JsonBroken(number, f"{error.msg} (column {error.colno})") from None
        except RecursionError:
            raise JsonBroken(number, "nested too deeply") from None


def _list(cursor: JsonCursor) -> Iterator[RawRow]:
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
        return
    while True:
        cursor.peek()
        line = cursor.line
        yield RawRow(cursor.value(), line)
        if cursor.peek() != ",":
            break
        cursor.take(",")
    cursor.take("]")


def _part(path: Path, cursor: JsonCursor, split: str) -> Iterator[RawRow]:
    """The rows of one part; the others are gone through and left."""
    names: list[str] = []
    cursor.take("{")
    while True:
        if cursor.peek() != '"':
            raise JsonBroken(cursor.line, "expected the name of a part")
        names.append(cursor.value())
        cursor.take(":")
        for row in _list(cursor):
            if names[-1] == split:
                yield row
        if cursor.peek() != ",":
            break
        cursor.take(",")
    cursor.take("}")
    if split not in names:
        raise data_failure(
            f"{path} has no part {split!r}; it has: {', '.join(names)}",
            "Name one of these parts as the split.",
        )
