"""How long to wait before asking again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(first_seconds: float, most_seconds: float, rng: random.Random) -> Iterator[float]:
    """Growing delays with full jitter, so that a thousand trainers do not come back at once."""
    bound = first_seconds
    while True:
        yield rng.uniform(bound / 2, bound)
        bound = min(bound * 2, most_seconds)
