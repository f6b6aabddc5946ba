"""Finds the rows in a JSON file, whatever shape it has, without loading it.

Owns the shapes: JSON Lines, a JSON list, an object with parts ("train", ...).
Refuses broken JSON and an empty file (JsonBroken, with the line), and a part
that does not exist (RunFailed, DATASET_INVALID). What a row means is
dialogue.py's to say.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, BinaryIO

from trainer_svc.child.dialogue import FIELDS
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.json_stream import VALUE_CHARS_MAX, JsonBroken, JsonCursor
from trainer_svc.child.raw_row import RawRow, data_failure

UTF8_MARK = b"\xef\xbb\xbf"


class Shape(Enum):
    """How the rows lie in a file."""

    LINES = auto()
    LIST = auto()
    PARTS = auto()


def json_rows(path: Path, file: BinaryIO, split: str, default_split: str) -> Iterator[RawRow]:
    """The rows of `file`, in order. A broken line of JSON Lines is a broken row; anything else
    that is broken is the file's fault. Raises JsonBroken, RunFailed."""
    shape = find_shape(file)
    file.seek(0)
    if shape is not Shape.PARTS and split:
        raise no_parts(path, split)
    yield from _rows(path, file, shape, split or default_split)


def no_parts(path: Path, split: str) -> RunFailed:
    """What to say when a part is asked for of a file that has none."""
    return data_failure(f"{path} has no parts, so it has no {split!r}", "Leave out the split.")


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
    # It reads ahead: what is no text there is some row's, and found when that is read.
    cursor = JsonCursor(file, decoding_errors="replace")
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
    return Shape.PARTS if _begins_part(cursor, file) else Shape.LINES


def _begins_part(cursor: JsonCursor, file: BinaryIO) -> bool:
    """Whether the key and value that follow are a part's name and its list of rows, and no key
    after them is a row's."""
    in_list = False
    with suppress(JsonBroken):  # then the reader of the shape says what is wrong, and where
        if cursor.value() in FIELDS:
            return False
        cursor.take(":")
        if cursor.peek() != "[":
            return False
        cursor.take("[")
        in_list = True
        if cursor.peek() != "]" and not _is_row(cursor.value()):
            return False
        return not _field_follows(cursor, file)
    return in_list


def _field_follows(cursor: JsonCursor, file: BinaryIO) -> bool:
    """Whether a later key of the object, in a list of which the cursor is, is a row's. Raises
    JsonBroken, also where that would be further than a line can reach."""
    _leave_list(cursor, file)
    while cursor.peek() == ",":
        cursor.take(",")
        if cursor.peek() != '"':
            return False
        if cursor.value() in FIELDS:
            return True
        cursor.take(":")
        if cursor.peek() != "[":
            cursor.value()
            continue
        cursor.take("[")
        if cursor.peek() != "]":
            cursor.value()
        _leave_list(cursor, file)
    return False


def _leave_list(cursor: JsonCursor, file: BinaryIO) -> None:
    while cursor.peek() == "," and file.tell() <= VALUE_CHARS_MAX:
        cursor.take(",")
        cursor.value()
    cursor.take("]")


def _is_row(value: Any) -> bool:
    """Whether a value in a list looks like a row, rather than like some field's content."""
    if isinstance(value, list):
        return all(isinstance(utterance, str) for utterance in value)
    return isinstance(value, dict) and not FIELDS.isdisjoint(value)


def _lines(file: BinaryIO) -> Iterator[RawRow]:
    number = 0
    while line := file.readline(VALUE_CHARS_MAX):
        number += 1
        if len(line) == VALUE_CHARS_MAX and not line.endswith(b"\n"):
            _skip_line(file)
            yield RawRow(None, number, broken=f"a line of {VALUE_CHARS_MAX} bytes or more")
            continue
        text = line.removeprefix(UTF8_MARK) if number == 1 else line
        if text.strip():
            yield _line(text, number)


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(VALUE_CHARS_MAX)) and not rest.endswith(b"\n"):
        pass


def _line(line: bytes, number: int) -> RawRow:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return RawRow(None, number, broken="malformed JSON: not UTF-8")
    value, problem = parse_json(text)
    return RawRow(value, number, broken=problem)


def parse_json(text: str) -> tuple[Any, str]:
    """The value of a JSON text, and what is wrong with it, "" for nothing."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, f"malformed JSON: {error.msg} (column {error.colno})"
    except RecursionError:
        return None, "malformed JSON: nested too deeply"
    except ValueError as error:  # a number of thousands of digits
        return None, f"malformed JSON: {error}"


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
