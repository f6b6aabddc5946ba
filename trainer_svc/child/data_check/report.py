"""What a data check says: messages of the contract, a line of proto JSON each, on a pipe.

Owns the pipe's form, and the bounds of a message: texts are cut, so that every
line fits into a message of gRPC's. Refuses nothing; a reader that has gone is
the BrokenPipeError it is.
"""

import os
import threading

from google.protobuf.json_format import MessageToJson
from tunewright.v1.data_service_pb2 import (
    CheckDataResponse,
    DataCheckProgress,
    DataVerdict,
    ShownRow,
    SourceReport,
)
from tunewright.v1.feed_pb2 import DataPrepared, Entry, Event
from tunewright.v1.job_pb2 import Failure as FailureMessage
from tunewright.v1.job_pb2 import FailureCause

from trainer_svc.child.failure import Failure, Phase
from trainer_svc.child.progress import DATA_PROGRESS
from trainer_svc.child.spool import Spool

TEXT_CHARS_MAX = 4_000


class Report:
    """Writes to one file descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._writing = threading.Lock()

    def progress(self, progress: DataCheckProgress) -> None:
        """How far it is."""
        self._write(CheckDataResponse(progress=progress))

    def row(self, row: ShownRow) -> None:
        """A row as training gets it."""
        self._write(CheckDataResponse(row=row))

    def source(self, report: SourceReport) -> None:
        """What became of a source's rows."""
        self._write(CheckDataResponse(source=report))

    def entry(self, entry: Entry) -> None:
        """Something worth knowing. Receipts are in the reports of their sources."""
        event = entry.event
        if event.type == DATA_PROGRESS:
            self._write(CheckDataResponse(progress=_progress(event)))
        elif entry.HasField("event"):
            event.message = event.message[:TEXT_CHARS_MAX]
            for name in list(event.details):
                event.details[name] = event.details[name][:TEXT_CHARS_MAX]
            self._write(CheckDataResponse(event=event))

    def verdict(self, verdict: DataVerdict) -> None:
        """The outcome; nothing follows."""
        self._write(CheckDataResponse(verdict=verdict))

    def _write(self, message: CheckDataResponse) -> None:
        text: str = MessageToJson(
            message, preserving_proto_field_name=True, indent=None, ensure_ascii=True
        )
        line = memoryview(text.encode() + b"\n")
        with self._writing:
            while line:
                line = line[os.write(self._fd, line) :]


class ReportSpool(Spool):
    """Takes what a run would append to its spool."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def data_prepared(self, receipt: DataPrepared) -> None:
        """Not said here: findings.py reports each source whole."""

    def close(self) -> None:
        """Nothing is open."""

    def _append(self, entry: Entry) -> None:
        self._report.entry(entry)


def _progress(event: Event) -> DataCheckProgress:
    told = event.details
    return DataCheckProgress(
        phase=Phase.DATA.value,
        part=told["part"],
        source=told["source"],
        stage=told["stage"],
        rows_done=int(told["rows_done"]),
        rows_total=int(told.get("rows_total", 0)),
    )


def failure_message(failure: Failure) -> FailureMessage:
    """As in the contract, its texts cut."""
    return FailureMessage(
        cause=FailureCause.Value(failure.cause.value),
        message=clean(failure.message, TEXT_CHARS_MAX),
        hint=clean(failure.hint, TEXT_CHARS_MAX),
        exception_type=failure.exception_type,
    )


def clean(text: str, chars: int) -> str:
    """At most so many characters, and none that no message takes: half of a pair."""
    return text[:chars].encode("utf-8", errors="replace").decode("utf-8")
