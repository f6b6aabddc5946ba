"""The bound on holding back: when to say that a source's rest will not come.

Times are counted from when this process first saw an entry held, by the
monotonic clock: a restart begins anew, and no clock that jumps ends the wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set

from monitor_svc.domain.records import Held


class HoldWatch:
    """Which held entries have waited long enough."""

    def __init__(self, hold_seconds_max: float) -> None:
        self._hold_seconds_max = hold_seconds_max
        self._since: dict[int, float] = {}

    def expired(self, held: Collection[Held], lost_sources: Set[str], now: float) -> set[int]:
        """Ids of entries that have waited past the bound, or only for sources that are lost.

        `now` is monotonic, in seconds.
        """
        self._since = {one.held_id: self._since.get(one.held_id, now) for one in held}
        return {
            one.held_id
            for one in held
            if now - self._since[one.held_id] >= self._hold_seconds_max
            or (one.waits and all(wait.source in lost_sources for wait in one.waits))
        }


def lost_sources(
    uuids: Mapping[str, str], lost: Iterable[str], connected: Collection[str]
) -> set[str]:
    """UUIDs of the sources whose trainer is lost to the scheduler, and to us."""
    return {uuids[key] for key in lost if key in uuids and key not in connected}
