"""Dispatch: assigns what fits, then tells the trainers.

Woken by whatever may let a job start: a new job, a resumed one, a report, a
heartbeat. The call to a trainer comes after the commit, outside of any
transaction; if it is lost, the next heartbeat's answer carries the same.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from tunewright.wire.names import job_name, trainer_name

from scheduler_svc.application.dispatch import Dispatch
from scheduler_svc.application.lead import Lead
from scheduler_svc.application.orders import Delivery
from scheduler_svc.domain.run import AssignedRun
from scheduler_svc.hop import Hop
from scheduler_svc.loops.loop import Loop
from svckit.crash import crash_point


class StartCalls(Protocol):
    """Tells trainers to start runs."""

    def start_run(
        self, address: str, incarnation: str, database_uuid: str, generation: int, run: AssignedRun
    ) -> None:
        """Returns at once; a call that fails is forgotten."""


class DispatchLoop:
    """Rounds of dispatch, as often as something wakes it. `moved` hears of each commit."""

    def __init__(
        self,
        dispatch: Dispatch,
        lead: Lead,
        hop: Hop,
        calls: StartCalls,
        moved: Callable[[], None],
        tick_seconds: float,
    ) -> None:
        self._dispatch = dispatch
        self._lead = lead
        self._hop = hop
        self._calls = calls
        self._moved = moved
        self.loop = Loop("dispatch", self._round, tick_seconds, pause_seconds=0.02)

    async def _round(self) -> None:
        crash_point("scheduler.dispatch.before")
        deliveries = await self._hop(self._dispatch.run)
        if not deliveries:
            return
        crash_point("scheduler.dispatch.committed")
        self._deliver(deliveries)
        # Wakes this loop, too: a round is bounded, and there may be more to place.
        self._moved()

    def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        installation = self._lead.installation
        for delivery in deliveries:
            key = delivery.assignment.key
            structlog.get_logger().info(
                "assigned",
                job=job_name(key.job_id),
                attempt=key.attempt,
                trainer=trainer_name(delivery.trainer_id),
            )
            self._calls.start_run(
                delivery.address,
                delivery.incarnation,
                installation.database_uuid,
                installation.generation,
                delivery.assignment,
            )
