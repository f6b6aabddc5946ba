"""Which sources this monitor reads: takes leases, keeps them, and says what it holds."""

from __future__ import annotations

import time

import structlog

from monitor_svc.domain.leases import LeaseWatch
from monitor_svc.domain.ports import Hop, LeaseStore
from monitor_svc.domain.records import Source

log = structlog.get_logger()


class Leases:
    """The leases of one process."""

    def __init__(
        self, store: LeaseStore, hop: Hop, instance: str, name: str, lease_seconds: float
    ) -> None:
        self._store = store
        self._hop = hop
        self._instance = instance
        self._name = name
        self._watch = LeaseWatch(instance, name, lease_seconds)
        # Every source, as of the last look.
        self.seen: list[Source] = []

    async def renew(self) -> dict[str, Source]:
        """Lets the beats grow and claims what is free; what is held now, by key."""
        self.seen = await self._hop(self._store.beat, self._instance)
        held = {source.key: source for source in self.seen if source.holder == self._instance}
        for source in self._watch.claimable(self.seen, time.monotonic()):
            # Sources refuse a lower epoch than they have seen. Seconds since 1970 are
            # higher than those of a monitor whose database was lost.
            epoch = await self._hop(
                self._store.claim, source, self._instance, self._name, int(time.time())
            )
            if epoch is not None:
                log.info("lease taken", source=source.key, epoch=epoch)
                held[source.key] = Source(
                    source.key, source.address, source.source, self._instance, self._name, epoch
                )
        return held

    async def give_back(self) -> None:
        """Frees all, so that a successor need not wait."""
        await self._hop(self._store.give_back, self._instance)
