"""The real clocks and the real chance: what the use cases are given outside of tests."""

import secrets
import time
import uuid
from datetime import UTC, datetime

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 signs, none of which is taken for another."""
_ID_SIGNS = 13


class SystemClock:
    """This host's clocks."""

    def now(self) -> datetime:
        """Wall clock, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()


class RandomIds:
    """Names of 65 random bits and more: no two are ever the same."""

    def new_job_id(self) -> str:
        """A letter and 13 signs."""
        return "j" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_SIGNS))

    def new_uuid(self) -> str:
        """A random UUID."""
        return str(uuid.uuid4())
