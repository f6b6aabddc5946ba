"""Facts that a domain refuses with; one interceptor turns them into a status.

Pure: a domain may import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tunewright.wire.reasons import Reason, Violation

__all__ = [
    "DatabaseBusy",
    "DatabaseUnavailable",
    "InvalidRequest",
    "Reason",
    "Refusal",
    "StorageFull",
    "Violation",
]


class Refusal(Exception):
    """Why something was not done. Subclasses set `reason`, which gives the gRPC code."""

    reason: ClassVar[Reason] = Reason.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_delay_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: Mapping[str, str] = metadata or {}
        self.violations: Sequence[Violation] = tuple(violations)
        self.retry_delay_seconds = retry_delay_seconds


class InvalidRequest(Refusal):
    """The request is wrong; `violations` names every bad field."""

    reason = Reason.INVALID_REQUEST

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> InvalidRequest:
        """One refusal for all bad fields; the message repeats the first."""
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        return cls(f"{first.field}: {first.description}{more}", violations=violations)


class DatabaseBusy(Refusal):
    """The database is locked by somebody else for longer than the busy timeout."""

    reason = Reason.DATABASE_BUSY


class DatabaseUnavailable(Refusal):
    """The database cannot be reached."""

    reason = Reason.DATABASE_UNAVAILABLE


class StorageFull(Refusal):
    """The database's disk is full."""

    reason = Reason.STORAGE_FULL
