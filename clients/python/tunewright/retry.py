"""When to try again, and after how long: for single calls and for streams.

Pure: time and randomness are arguments, nothing sleeps here. Both transports
and both kinds of stream follow it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tunewright.errors import (
    ApiError,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from tunewright.wire.reasons import Reason


@dataclass(frozen=True)
class Backoff:
    """Growing, jittered waits: half of each wait is random, so that clients spread out.

    Times in seconds.
    """

    first_seconds: float = 0.1
    factor: float = 2.0
    seconds_max: float = 5.0
    jitter: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    def delay(self, failures: int) -> float:
        """The wait after so many failures in a row (1, 2, ...), in seconds."""
        # The exponent is bounded: a watch may fail for days, and floats overflow.
        grown = self.first_seconds * self.factor ** min(failures - 1, 30)
        return min(grown, self.seconds_max) * (0.5 + 0.5 * self.jitter())


class CallBudget:
    """The retries of one call: within its deadline, only where a repeat is harmless."""

    def __init__(self, backoff: Backoff, repeatable: bool, started: float, timeout: float) -> None:
        self._backoff = backoff
        self._repeatable = repeatable
        self._deadline = started + timeout
        self._failures = 0

    def remaining(self, now: float) -> float:
        """Seconds left for the next try; never below a millisecond, so that gRPC refuses it."""
        return max(self._deadline - now, 0.001)

    def delay_after(self, failure: ApiError, now: float) -> float | None:
        """How long to wait before the next try; None: give up and raise `failure`."""
        if not isinstance(failure, Unavailable):
            return None
        asked = failure.retry_delay_seconds
        if asked is None and not self._repeatable:
            return None
        self._failures += 1
        delay = max(self._backoff.delay(self._failures), asked or 0.0)
        return delay if now + delay < self._deadline else None


class Reconnect:
    """The reconnects of one stream: as long as it takes, unless told when to give up."""

    def __init__(self, backoff: Backoff, give_up_seconds: float | None = None) -> None:
        self._backoff = backoff
        self._give_up_seconds = give_up_seconds
        self._failures = 0
        self._first_failure: float | None = None

    def succeeded(self) -> None:
        """Something arrived: the next failure is the first again."""
        self._failures = 0
        self._first_failure = None

    def delay_after(self, failure: ApiError, now: float) -> float | None:
        """How long to wait before reconnecting; None: give up and raise `failure`."""
        if not is_interruption(failure):
            return None
        if self._first_failure is None:
            self._first_failure = now
        limit = self._give_up_seconds
        if limit is not None and now - self._first_failure >= limit:
            return None
        self._failures += 1
        return max(self._backoff.delay(self._failures), failure.retry_delay_seconds or 0.0)


def is_interruption(failure: ApiError) -> bool:
    """True if a stream that ended so is worth opening again where it stopped."""
    if isinstance(failure, Unavailable | DeadlineExceeded):
        return True
    if isinstance(failure, ResourceExhausted):
        return failure.reason == Reason.SLOW_SUBSCRIBER
    # Without a reason it does not come from a service: gRPC reports a reset
    # or cut stream so.
    no_reason = not failure.reason
    return no_reason and (isinstance(failure, Internal) or failure.code in ("CANCELLED", "UNKNOWN"))
