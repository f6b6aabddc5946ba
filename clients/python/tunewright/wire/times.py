"""Times and durations on the wire, as datetimes (UTC) and seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def timestamp(moment: datetime) -> Timestamp:
    """A Timestamp of an aware datetime."""
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def timestamp_of_seconds(seconds: float) -> Timestamp:
    """A Timestamp of seconds since 1970-01-01 UTC, to the microsecond."""
    message = Timestamp()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def moment(message: Timestamp) -> datetime:
    """An aware datetime in UTC, to the microsecond."""
    return message.ToDatetime(tzinfo=UTC)


def epoch_seconds(message: Timestamp) -> float:
    """Seconds since 1970-01-01 UTC."""
    return message.ToMicroseconds() / 1e6


def duration(seconds: float) -> Duration:
    """A Duration of a number of seconds, to the microsecond."""
    message = Duration()
    message.FromMicroseconds(round(seconds * 1e6))
    return message


def seconds_of(message: Duration) -> float:
    """The number of seconds in a Duration."""
    return message.ToMicroseconds() / 1e6
