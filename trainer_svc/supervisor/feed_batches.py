"""Feed streams of runs as batches of entries, read from the files as they are.

One line is one entry. A line that cannot be read becomes a warning in its
place, so that nothing is left out silently; half a line is never sent.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from tunewright.v1 import feed_pb2
from tunewright.wire.times import timestamp, timestamp_of_seconds

from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.status import stream_name
from trainer_svc.supervisor.stream_lines import Line, read_lines

ENTRIES_MAX = 256
BATCH_BYTES_MAX = 1024 * 1024
ENTRY_BYTES_MAX = 64 * 1024
LOG_LINE_BYTES_MAX = 16 * 1024


def read_batch(run: Run, stream: str, position: int, source: str) -> feed_pb2.FeedBatch | None:
    """What follows `position`, in one batch; None if there is nothing new and more may come.

    Blocking. `end` is set once nothing will ever follow.
    """
    # Asked before the file is read: what was written until then is then all there is.
    closed = run.stream_closed(stream)
    batch = feed_pb2.FeedBatch()
    file = run.folder.stream_file(stream)
    size = 0
    for line in read_lines(file, position, writer_gone=closed):
        entry = _entry(line, stream, file)
        entry.job, entry.attempt, entry.sequence = run.key.job, run.key.attempt, 0
        size += entry.ByteSize()
        if batch.entries and size > BATCH_BYTES_MAX:
            break
        batch.entries.append(entry)
        position = line.after
        if len(batch.entries) >= ENTRIES_MAX:
            break
    batch.end = closed and position >= run.folder.stream_size(stream)
    if not batch.entries and not batch.end:
        return None
    batch.cursor.CopyFrom(
        feed_pb2.FeedCursor(source=source, stream=stream_name(run, stream), position=position)
    )
    return batch


def _entry(line: Line, stream: str, file: Path) -> feed_pb2.Entry:
    if stream == "stdout":
        return _log_line(line.data, file)
    if line.torn:
        return _warning("TORN_LINE", f"the last line of {file.name} was cut off by a crash")
    if len(line.data) > ENTRY_BYTES_MAX:
        return _warning("OVERSIZED_LINE", f"a line of {len(line.data)} bytes in {file.name}")
    entry = feed_pb2.Entry()
    try:
        json_format.Parse(line.data, entry, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError):
        return _warning("MALFORMED_LINE", f"a line of {file.name} cannot be read")
    if entry.WhichOneof("payload") is None:
        return _warning("MALFORMED_LINE", f"a line of {file.name} says nothing")
    return entry


def _log_line(data: bytes, file: Path) -> feed_pb2.Entry:
    """A printed line; of a progress bar that redraws itself, the last drawing."""
    drawn = data.rstrip(b"\r").rpartition(b"\r")[2]
    text = drawn[: LOG_LINE_BYTES_MAX + 4].decode("utf-8", errors="replace").replace("\0", "\ufffd")
    encoded = text.encode()
    truncated = len(drawn) > LOG_LINE_BYTES_MAX or len(encoded) > LOG_LINE_BYTES_MAX
    if truncated:
        text = encoded[:LOG_LINE_BYTES_MAX].decode("utf-8", errors="ignore")
    return feed_pb2.Entry(
        time=_last_write(file), log_line=feed_pb2.LogLine(text=text, truncated=truncated)
    )


def _last_write(file: Path) -> Timestamp:
    """Lines carry no time of their own; the file's last write is the nearest there is."""
    try:
        return timestamp_of_seconds(file.stat().st_mtime)
    except OSError:
        return timestamp(datetime.now(UTC))


def _warning(kind: str, message: str) -> feed_pb2.Entry:
    return feed_pb2.Entry(
        time=timestamp(datetime.now(UTC)),
        event=feed_pb2.Event(severity=feed_pb2.SEVERITY_WARNING, type=kind, message=message),
    )
