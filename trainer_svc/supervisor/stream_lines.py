"""Lines of a growing file, from a byte offset, each read once it is whole.

A last line without its end is left alone while its writer lives. Once the
writer is gone it is torn, and said to be so. A line longer than the bound is
given in pieces, so that no reader has to hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LINE_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class Line:
    """One line without its end; `after` is the offset behind it."""

    data: bytes
    after: int
    torn: bool = False


def read_lines(file: Path, position: int, *, writer_gone: bool) -> Iterator[Line]:
    """The whole lines after `position`; nothing if there is no file, or it is shorter.

    Reads one bounded piece of the file; call again from the last `after`.
    """
    try:
        with open(file, "rb") as stream:
            stream.seek(position)
            piece = stream.read(LINE_BYTES_MAX)
            at_end = not stream.read(1)
    except OSError:
        return
    start = 0
    while (end := piece.find(b"\n", start)) >= 0:
        yield Line(piece[start:end], position + end + 1)
        start = end + 1
    rest = piece[start:]
    if rest and len(rest) == LINE_BYTES_MAX:
        yield Line(rest, position + len(piece))
    elif rest and at_end and writer_gone:
        yield Line(rest, position + len(piece), torn=True)
