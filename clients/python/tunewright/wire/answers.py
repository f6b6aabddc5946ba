"""What every answer of a service says about the service itself, in its trailing metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

VERSION_KEY = "tunewright-version"
TIME_KEY = "tunewright-time"


def answered_by(trailing: Iterable[Any] | None) -> tuple[str, float | None]:
    """The service's version and its clock, in seconds since 1970.

    "" and None if it does not tell.
    """
    told = {str(key): value for key, value in trailing or ()}
    version, clock = told.get(VERSION_KEY, ""), told.get(TIME_KEY)
    try:
        return str(version), None if clock is None else float(clock)
    except (TypeError, ValueError):
        return str(version), None
