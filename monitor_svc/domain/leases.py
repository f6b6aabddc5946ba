"""Who may read a source: leases that need no clock in common.

A lease's row has a beat that its holder makes grow. Whoever sees a beat stand
still for the lease's time, by a monotonic clock of its own, may claim the
source with a higher epoch; the claim names the epoch and beat it saw, so that
one of several wins. Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from monitor_svc.domain.records import Source


@dataclass
class _Sight:
    epoch: int
    beat: int
    since: float


class LeaseWatch:
    """What one process has seen of the leases.

    `instance` is new with each start, `name` is the monitor's for good: a
    successor of the same name takes over at once, but only once for each
    source, so that two of one name do not take it from each other for ever.
    """

    def __init__(self, instance: str, name: str, lease_seconds: float) -> None:
        self._instance = instance
        self._name = name
        self._lease_seconds = lease_seconds
        self._sights: dict[str, _Sight] = {}
        self._succeeded: set[str] = set()

    def claimable(self, sources: Iterable[Source], now: float) -> list[Source]:
        """The sources to claim now; `now` is monotonic, in seconds."""
        return [source for source in sources if self._is_free(source, now)]

    def _is_free(self, source: Source, now: float) -> bool:
        sight = self._sights.get(source.key)
        if sight is None or (sight.epoch, sight.beat) != (source.epoch, source.beat):
            sight = self._sights[source.key] = _Sight(source.epoch, source.beat, now)
        if source.holder == self._instance:
            self._succeeded.add(source.key)
            return False
        if not source.holder:
            return True
        if source.holder_name == self._name and source.key not in self._succeeded:
            self._succeeded.add(source.key)
            return True
        return now - sight.since >= self._lease_seconds
