"""The run's own account of what happens: spool.jsonl, one Entry per line.

Owns the file's form: proto JSON with proto field names, at most 64 KiB a line,
flushed line by line so that the trainer service reads whole entries even if
this process is killed. Refuses nothing; a full disk is the OSError it is.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from tunewright.v1.feed_pb2 import (
    SEVERITY_INFO,
    CheckpointSaved,
    DataPrepared,
    Entry,
    EvalMetrics,
    Event,
    Severity,
    TrainMetrics,
)

ENTRY_BYTES_MAX = 64 * 1024
# Lengths that the texts of an entry are cut to, tried in turn until it fits.
TEXT_CHARS = (8_000, 2_000, 400)
NANOS = 1_000_000_000


class Spool:
    """Appends entries to one spool file. Every method may raise OSError."""

    def __init__(self, path: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        # Unbuffered: after a full disk nothing waits to be written in half.
        self._file = path.open("ab", buffering=0)
        self._clock_ns = clock_ns

    def event(
        self,
        kind: str,
        message: str,
        severity: Severity.ValueType = SEVERITY_INFO,
        **details: object,
    ) -> None:
        """Something worth knowing; `kind` is UPPER_SNAKE_CASE."""
        texts = {name: str(value) for name, value in details.items()}
        event = Event(severity=severity, type=kind, message=message, details=texts)
        self._append(Entry(event=event))

    def train_metrics(self, metrics: TrainMetrics) -> None:
        """One logging step."""
        self._append(Entry(train_metrics=metrics))

    def eval_metrics(self, metrics: EvalMetrics) -> None:
        """One evaluation."""
        self._append(Entry(eval_metrics=metrics))

    def checkpoint_saved(self, saved: CheckpointSaved) -> None:
        """A checkpoint became durable."""
        self._append(Entry(checkpoint_saved=saved))

    def data_prepared(self, receipt: DataPrepared) -> None:
        """A data set was prepared."""
        self._append(Entry(data_prepared=receipt))

    def close(self) -> None:
        """Safe to call twice."""
        self._file.close()

    def _append(self, entry: Entry) -> None:
        now_ns = self._clock_ns()
        entry.time.seconds, entry.time.nanos = divmod(now_ns, NANOS)
        line = memoryview(_line(entry))
        begin = self._file.tell()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            with suppress(OSError):  # no truncating a device
                self._file.truncate(begin)  # half a line would spoil the one after it
            raise


def _line(entry: Entry) -> bytes:
    line = _encode(entry)
    for chars in TEXT_CHARS:
        if len(line) <= ENTRY_BYTES_MAX:
            return line
        _cut_texts(entry, chars)
        line = _encode(entry)
    if len(line) > ENTRY_BYTES_MAX:
        raise ValueError(f"an entry of {len(line)} bytes does not fit in {ENTRY_BYTES_MAX}")
    return line


def _encode(entry: Entry) -> bytes:
    text: str = MessageToJson(
        entry, preserving_proto_field_name=True, indent=None, ensure_ascii=False
    )
    return text.encode() + b"\n"


def _cut_texts(entry: Entry, chars: int) -> None:
    kind = entry.WhichOneof("payload")
    if kind == "event":
        entry.event.message = entry.event.message[:chars]
        for name in list(entry.event.details):
            entry.event.details[name] = entry.event.details[name][:chars]
    elif kind == "data_prepared":
        for dropped in entry.data_prepared.dropped:
            dropped.places[:] = [place[-chars:] for place in dropped.places]
