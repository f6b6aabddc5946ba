"""Rows in Arrow files: written in batches, read through a memory map.

Owns the form of the files between the steps of preparation. At no time is more
than a batch in memory, so a set larger than memory trains.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs

WRITE_ROWS = 1_000
# Or fewer rows, of at least so much: a batch of them has to fit in memory, and in Arrow's
# 32-bit offsets.
WRITE_BYTES = 32 << 20

DIALOGUE_COLUMNS = (
    ("roles", pa.list_(pa.string())),
    ("contents", pa.list_(pa.string())),
    ("learnt", pa.list_(pa.bool_())),
    ("thoughts", pa.list_(pa.string())),
    ("names", pa.list_(pa.string())),
)
"""The columns of dialogue.as_columns."""


@contextmanager
def arrow_file(path: Path, schema: pa.Schema) -> Iterator["ArrowWriter"]:
    """Writes an Arrow stream that can be memory-mapped, complete when the block ends."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        writer = ArrowWriter(schema, stream)
        yield writer
        writer.flush()


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow stream, memory-mapped, in order."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
        yield from stream


class ArrowWriter:
    """Writes rows to an Arrow stream in batches."""

    def __init__(self, schema: pa.Schema, stream: Any) -> None:
        self._schema = schema
        self._stream = stream
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes `row`, now or later."""
        self._rows.append(row)
        self._bytes += sum(map(_size_bytes, row.values()))
        if len(self._rows) >= WRITE_ROWS or self._bytes >= WRITE_BYTES:
            self.flush()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Writes the columns of the schema that `batch` has, after all rows added before."""
        self.flush()
        if batch.num_rows:
            self._stream.write_batch(batch.select(self._schema.names))

    def flush(self) -> None:
        """Writes what is not written yet."""
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
            self._bytes = 0


def _size_bytes(value: Any) -> int:
    """About what it takes in Arrow."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, list) and value and isinstance(value[0], str):
        return sum(map(_size_bytes, value))
    return 4 * len(value) if isinstance(value, list) else 4
