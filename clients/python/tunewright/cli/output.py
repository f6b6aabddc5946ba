"""What commands print on stdout: JSON for programs, aligned text for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len, set_cell_size


def json_line(message: Message) -> str:
    """A message as one line of proto JSON: snake_case, every plain field present."""
    record = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(record, ensure_ascii=False)


def say(text: str = "") -> None:
    """Prints a line, at once: another program may read along."""
    print(text, flush=True)


def note(text: str) -> None:
    """Prints a line that is not the result: on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints aligned columns; on a terminal, a line that is too long is cut."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines([header, *rows], width):
        say(line)


def table_lines(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Columns of equal width, two spaces apart."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (set_cell_size(cell, size) for cell, size in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        too_long = width is not None and cell_len(line) > width
        lines.append(set_cell_size(line, width - 1) + "…" if too_long and width else line)
    return lines


def print_fields(fields: Iterable[tuple[str, str]], indent: str = "") -> None:
    """Prints name and value pairs, aligned; those without a value are left out."""
    shown = [(name, value) for name, value in fields if value]
    size = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{indent}{name:<{size}}  {value}")
