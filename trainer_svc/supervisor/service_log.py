"""service.jsonl: what the trainer service itself has to say of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf import json_format
from tunewright.v1 import feed_pb2
from tunewright.wire.times import timestamp

INFO = feed_pb2.SEVERITY_INFO
WARNING = feed_pb2.SEVERITY_WARNING
ERROR = feed_pb2.SEVERITY_ERROR


class ServiceLog:
    """Appends entries to one run's service.jsonl. It has one writer: this service."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def event(
        self,
        severity: feed_pb2.Severity.ValueType,
        kind: str,
        message: str,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Appends an event, durably."""
        event = feed_pb2.Event(
            severity=severity, type=kind, message=message, details=dict(details or {})
        )
        self._append(feed_pb2.Entry(event=event), sync=True)

    def event_once(
        self,
        severity: feed_pb2.Severity.ValueType,
        kind: str,
        message: str,
        details: Mapping[str, str] | None = None,
    ) -> None:
        """The same, unless an event of this type is there already (from before a crash)."""
        if not self._has(kind):
            self.event(severity, kind, message, details)

    def sample(self, sample: feed_pb2.SystemSample) -> None:
        """Appends a system sample; losing the last one in a crash does no harm."""
        self._append(feed_pb2.Entry(system_sample=sample), sync=False)

    def _has(self, kind: str) -> bool:
        try:
            text = self._file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return f'"type": "{kind}"' in text

    def _append(self, entry: feed_pb2.Entry, *, sync: bool) -> None:
        entry.time.CopyFrom(timestamp(datetime.now(UTC)))
        line = json_format.MessageToJson(entry, preserving_proto_field_name=True, indent=None)
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            data = self._line_end_missing(fd) + line.encode() + b"\n"
            while data:
                data = data[os.write(fd, data) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    @staticmethod
    def _line_end_missing(fd: int) -> bytes:
        """A service that was killed half way through a line left it without its end."""
        size = os.fstat(fd).st_size
        return b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""
