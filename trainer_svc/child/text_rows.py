"""Finds the rows in a text file: a row for each line that is not empty.

As the libraries of the Hugging Face hub read text files. Refuses nothing: a line
that is too long, or not UTF-8, is a broken row.
"""

from collections.abc import Iterator
from typing import BinaryIO

from trainer_svc.child.json_stream import VALUE_CHARS_MAX
from trainer_svc.child.raw_row import RawRow

UTF8_MARK = b"\xef\xbb\xbf"
NOT_UTF8 = "not UTF-8 (save the file as UTF-8)"


def lines_of(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """The lines that are not empty, with their numbers, without a byte order mark; None for one
    of VALUE_CHARS_MAX bytes or more."""
    number = 0
    while line := file.readline(VALUE_CHARS_MAX):
        number += 1
        if len(line) == VALUE_CHARS_MAX and not line.endswith(b"\n"):
            _skip_line(file)
            yield number, None
            continue
        content = line.removeprefix(UTF8_MARK) if number == 1 else line
        if content.strip():
            yield number, content


def too_long(number: int) -> RawRow:
    """The row of a line that is too long to be read."""
    return RawRow(None, number, broken=f"a line of {VALUE_CHARS_MAX} bytes or more")


def text_rows(file: BinaryIO) -> Iterator[RawRow]:
    """The rows, each {"text": line}."""
    for number, line in lines_of(file):
        if line is None:
            yield too_long(number)
            continue
        try:
            yield RawRow({"text": line.decode().rstrip("\r\n")}, number)
        except UnicodeDecodeError:
            yield RawRow(None, number, broken=NOT_UTF8)


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(VALUE_CHARS_MAX)) and not rest.endswith(b"\n"):
        pass
