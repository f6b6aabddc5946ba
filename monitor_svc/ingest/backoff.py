"""Waiting before the next try: longer each time, and never the same for two."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Doubles from `first_seconds` to `longest_seconds`; each wait is 50 to 100 % of that."""

    first_seconds: float = 0.2
    longest_seconds: float = 10.0
    chance: random.Random = field(default_factory=random.Random)
    _tries: int = 0

    def next_seconds(self) -> float:
        """How long to wait this time."""
        # The exponent is bounded: 2.0 ** 1024 would overflow after a long outage.
        whole = min(self.longest_seconds, self.first_seconds * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return whole * self.chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked."""
        self._tries = 0
