"""The wall clock of a simulated node: goes with virtual time, and may jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.simulation.virtual_time import World

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class WallClock:
    """Both clocks of a node; a scheduler takes it as its Clock port."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._offset_seconds = 0.0

    def now(self) -> datetime:
        """Wall clock, UTC."""
        return _BEGIN + timedelta(seconds=round(self._world.now + self._offset_seconds, 6))

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._world.now

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._offset_seconds += seconds
