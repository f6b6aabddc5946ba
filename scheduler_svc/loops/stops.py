"""Tells trainers at once what they are to stop.

An optimisation: the stop stands in the record, and each heartbeat's answer
repeats it.
"""

from typing import Protocol

from scheduler_svc.application.lead import Lead
from scheduler_svc.application.orders import Orders
from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.run import StopOrder
from scheduler_svc.hop import Hop
from scheduler_svc.loops.loop import Loop

_IDLE_TICK_SECONDS = 60.0


class StopCalls(Protocol):
    """Tells trainers to stop runs."""

    def stop_run(self, address: str, database_uuid: str, generation: int, order: StopOrder) -> None:
        """Returns at once; a call that fails is forgotten."""


class StopLoop:
    """Pushes the stops of the jobs that it was told of."""

    def __init__(self, orders: Orders, lead: Lead, hop: Hop, calls: StopCalls) -> None:
        self._orders = orders
        self._lead = lead
        self._hop = hop
        self._calls = calls
        self._pending: set[JobId] = set()
        self.loop = Loop("stops", self._round, _IDLE_TICK_SECONDS)

    def push(self, job_id: JobId) -> None:
        """The job was asked to stop. From the event loop's thread only."""
        self._pending.add(job_id)
        self.loop.wake()

    async def _round(self) -> None:
        pending, self._pending = self._pending, set()
        installation = self._lead.installation
        for job_id in sorted(pending):
            delivery = await self._hop(self._orders.stop_of, job_id)
            if delivery is not None:
                self._calls.stop_run(
                    delivery.address,
                    installation.database_uuid,
                    installation.generation,
                    delivery.order,
                )
