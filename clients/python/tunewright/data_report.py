"""What a data check came to, for both clients. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunewright.errors import Internal
from tunewright.v1 import data_service_pb2, feed_pb2


@dataclass
class DataReport:
    """Everything a data check says, but how far it was meanwhile.

    Attributes:
        started: which trainer checked, and the spec with every default.
        sources: receipt, lengths and problems of each source.
        rows: the first rows of each source, as training gets them.
        events: what else is worth knowing.
        verdict: whether a job with this data would train, and if not, why.
    """

    started: data_service_pb2.DataCheckStarted = field(
        default_factory=data_service_pb2.DataCheckStarted
    )
    sources: list[data_service_pb2.SourceReport] = field(default_factory=list)
    rows: list[data_service_pb2.ShownRow] = field(default_factory=list)
    events: list[feed_pb2.Event] = field(default_factory=list)
    verdict: data_service_pb2.DataVerdict = field(default_factory=data_service_pb2.DataVerdict)
    complete: bool = False

    @property
    def accepted(self) -> bool:
        """Whether a job with this data would begin to train."""
        return self.complete and self.verdict.accepted

    def add(self, message: data_service_pb2.CheckDataResponse) -> None:
        """Takes in one message of the stream."""
        payload = message.WhichOneof("payload")
        if payload == "started":
            self.started = message.started
        elif payload == "source":
            self.sources.append(message.source)
        elif payload == "row":
            self.rows.append(message.row)
        elif payload == "event":
            self.events.append(message.event)
        elif payload == "verdict":
            self.verdict, self.complete = message.verdict, True

    def require_complete(self) -> DataReport:
        """This report; Internal if the stream ended before the verdict."""
        if not self.complete:
            raise Internal("the data check ended without a verdict", code="INTERNAL")
        return self


def report_of(messages: Iterable[data_service_pb2.CheckDataResponse]) -> DataReport:
    """The report that these messages, all of a check's, add up to. Raises Internal."""
    report = DataReport()
    for message in messages:
        report.add(message)
    return report.require_complete()
