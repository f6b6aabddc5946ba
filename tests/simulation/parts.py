"""What a schedule is put together from, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from scheduler_svc.application.scheduler import Scheduler
from tests.simulation.database import SimStore
from tests.simulation.history import History
from tests.simulation.invariants import Violation
from tests.simulation.monitor_node import SimMonitorStore
from tests.simulation.trainer_node import SimUpstream


@dataclass(frozen=True)
class Parts:
    """What is put together; a test replaces one of them by one with a planted mistake."""

    store_class: type[SimStore] = SimStore
    monitor_store_class: type[SimMonitorStore] = SimMonitorStore
    upstream_class: type[SimUpstream] = SimUpstream
    wrap_scheduler: Callable[[Scheduler], Scheduler] = field(default=lambda scheduler: scheduler)


@dataclass(frozen=True)
class Outcome:
    """What became of one schedule."""

    seed: int
    violations: list[Violation]
    history: History
    virtual_seconds: float
