"""Finds the rows in a JSON file, whatever shape it has, without loading it.

Owns the shapes: JSON Lines, a JSON list, an object with parts ("train", ...),
objects over several lines. Refuses broken JSON and an empty file (JsonBroken,
with the line), and a part that does not exist (RunFailed, DATASET_INVALID). What
a row means is said in rows/.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, BinaryIO

from trainer_svc.child.asked import Asked
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.json_stream import VALUE_CHARS_MAX, JsonBroken, JsonCursor
from trainer_svc.child.raw_row import RawRow, data_failure
from trainer_svc.child.rows.layout import Columns, fields_of, recognises
from trainer_svc.child.text_rows import NOT_UTF8, lines_of, too_long

# Parts that mean something: another one that stands alone is the whole set.
PARTS = frozenset({"train", "training", "valid", "validation", "val", "dev", "eval", "test"})
KEYS_TOLD = 5


class Shape(Enum):
    """How the rows lie in a file."""

    LINES = auto()
    LIST = auto()
    PARTS = auto()
    OBJECTS = auto()
    """One after the other, each over several lines."""


def json_rows(path: Path, file: BinaryIO, asked: Asked) -> Iterator[RawRow]:
    """The rows of `file`, in order. A broken line of JSON Lines is a broken row; anything else
    that is broken is the file's fault. Raises JsonBroken, RunFailed."""
    shape = find_shape(file, asked.columns)
    file.seek(0)
    if shape is not Shape.PARTS and asked.split:
        raise no_parts(path, asked.split)
    if shape is Shape.LINES:
        yield from _lines(file)
    elif shape is Shape.OBJECTS:
        yield from _objects(path, JsonCursor(file), asked.columns)
    elif shape is Shape.LIST:
        cursor = JsonCursor(file)
        yield from _list(cursor)
        _require_end(cursor)
    else:
        yield from _parts(path, file, asked)


def no_parts(path: Path, split: str) -> RunFailed:
    """What to say when a part is asked for of a file that has none."""
    return data_failure(f"{path} has no parts, so it has no {split!r}", "Leave out the split.")


def _require_end(cursor: JsonCursor) -> None:
    if cursor.peek():
        raise JsonBroken(cursor.line, "something follows the end of the document")


def find_shape(file: BinaryIO, columns: Columns | None = None) -> Shape:
    """The shape, judged by the first bracket, key and value; `columns` is what the job says the
    fields of a row are called. Raises JsonBroken."""
    # It reads ahead: what is not text there is some row's, and found when that is read.
    cursor = JsonCursor(file, decoding_errors="replace")
    first = cursor.peek()
    if first == "":
        raise JsonBroken(1, "the file is empty")
    if first == "[":
        return Shape.LIST
    if first != "{":
        raise JsonBroken(cursor.line, f"expected '{{' or '[', found {first!r}")
    cursor.take("{")
    if cursor.peek() == '"' and _Beginning(cursor, file, columns or {}).is_part():
        return Shape.PARTS
    return Shape.OBJECTS if _over_several_lines(file) else Shape.LINES


def _over_several_lines(file: BinaryIO) -> bool:
    """Whether the first object is whole only with lines after its first."""
    file.seek(0)
    number, line = next(lines_of(file), (1, None))
    if line is None or not parse_json(line.decode(errors="replace"))[1]:
        return False
    file.seek(0)
    cursor = JsonCursor(file, decoding_errors="replace")
    with suppress(JsonBroken):
        cursor.value()
        return cursor.line > number
    return False


class _Beginning:
    """Looks at the beginning of an object whose bracket is taken."""

    def __init__(self, cursor: JsonCursor, file: BinaryIO, columns: Columns) -> None:
        self._cursor = cursor
        self._file = file
        self._columns = columns
        self._fields = fields_of(columns)

    def is_part(self) -> bool:
        """Whether the key and value that follow are a part's name and its list of rows, and no
        key after them is a row's."""
        cursor, in_list = self._cursor, False
        with suppress(JsonBroken):  # then the reader of the shape says what is wrong, and where
            if cursor.value() in self._fields:
                return False
            cursor.take(":")
            if cursor.peek() != "[":
                return False
            cursor.take("[")
            in_list = True
            if cursor.peek() != "]" and not self._is_row(cursor.value()):
                return False
            return not self._field_follows()
        return in_list

    def _is_row(self, value: Any) -> bool:
        """Whether a value in a list looks like a row, rather than like some field's content."""
        if isinstance(value, list):
            return all(isinstance(utterance, str) for utterance in value)
        if not isinstance(value, dict):
            return False
        return not self._fields.isdisjoint(value) or recognises(value, self._columns)

    def _field_follows(self) -> bool:
        """Whether a later key of the object, in a list of which the cursor is, is a row's. Raises
        JsonBroken, also where that would be further than a line can reach."""
        cursor = self._cursor
        _leave_list(cursor, self._file)
        while cursor.peek() == ",":
            cursor.take(",")
            if cursor.peek() != '"':
                return False
            if cursor.value() in self._fields:
                return True
            cursor.take(":")
            if cursor.peek() != "[":
                cursor.value()
                continue
            cursor.take("[")
            if cursor.peek() != "]":
                cursor.value()
            _leave_list(cursor, self._file)
        return False


def _leave_list(cursor: JsonCursor, file: BinaryIO) -> None:
    while cursor.peek() == "," and file.tell() <= VALUE_CHARS_MAX:
        cursor.take(",")
        cursor.value()
    cursor.take("]")


def _lines(file: BinaryIO) -> Iterator[RawRow]:
    for number, line in lines_of(file):
        yield too_long(number) if line is None else _line(line, number)


def _line(line: bytes, number: int) -> RawRow:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return RawRow(None, number, broken=f"malformed JSON: {NOT_UTF8}")
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


def _objects(path: Path, cursor: JsonCursor, columns: Columns) -> Iterator[RawRow]:
    """Objects over several lines. One alone, of objects, is a table of something else."""
    while cursor.peek():
        line = cursor.line
        value = cursor.value()
        if not recognises(value, columns):
            _refuse_settings(path, line, value)
        yield RawRow(value, line)


def _refuse_settings(path: Path, line: int, value: Any) -> None:
    if not isinstance(value, Mapping) or not value:
        return
    if all(isinstance(one, Mapping) for one in value.values()):
        names = ", ".join(list(value)[:KEYS_TOLD]) + (", ..." if len(value) > KEYS_TOLD else "")
        raise data_failure(
            f"{path}:{line}: an object with {len(value)} objects in it ({names}) is not a data set",
            'Give the rows themselves: a list of them, one a line, or {"train": [row, ...]}.',
        )


def _list(cursor: JsonCursor, part: str = "") -> Iterator[RawRow]:
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
        return
    while True:
        cursor.peek()
        line = cursor.line
        yield RawRow(cursor.value(), line, part=part)
        if cursor.peek() != ",":
            break
        cursor.take(",")
    cursor.take("]")


def _parts(path: Path, file: BinaryIO, asked: Asked) -> Iterator[RawRow]:
    """The rows of the part asked for. Where none is, and the only one has a name of its own, it
    is the one that is meant."""
    names: list[str] = []
    yield from _part(JsonCursor(file), asked.part, names)
    if asked.part in names:
        return
    if not asked.split and len(names) == 1 and names[0].lower() not in PARTS:
        file.seek(0)
        yield from _part(JsonCursor(file), names[0], [])
        return
    raise data_failure(
        f"{path} has no part {asked.part!r}; it has: {', '.join(names)}",
        f'Name one of these parts as the split (--data "FILE,split={names[0]}").',
    )


def _part(cursor: JsonCursor, split: str, names: list[str]) -> Iterator[RawRow]:
    """The rows of one part; the others are gone through and left. All names go to `names`."""
    cursor.take("{")
    while True:
        if cursor.peek() != '"':
            raise JsonBroken(cursor.line, "expected the name of a part")
        names.append(cursor.value())
        cursor.take(":")
        for row in _list(cursor, names[-1]):
            if names[-1] == split:
                yield row
        if cursor.peek() != ",":
            break
        cursor.take(",")
    cursor.take("}")
    _require_end(cursor)
