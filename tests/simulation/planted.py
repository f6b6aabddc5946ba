"""Four mistakes that the simulation must find, planted by replacing injected objects.

Nothing of production is changed: each is a subclass or a wrapper of a part that
the simulation puts together. How many seeds each takes is in docs/simulation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from tunewright.v1 import registry_service_pb2 as pb

from monitor_svc.domain.admission import Plan
from monitor_svc.domain.records import Appended
from scheduler_svc.application.ports import Guard
from scheduler_svc.application.registry import HeartbeatAnswer, RegisterAnswer
from scheduler_svc.application.scheduler import Scheduler
from scheduler_svc.domain.errors import StaleAttempt
from scheduler_svc.domain.job import Job
from scheduler_svc.domain.run import Heartbeat, Registration, Reporter, RunKey, RunReport, StopMode
from scheduler_svc.domain.states import JobState
from tests.simulation.campaign import first_violation
from tests.simulation.database import SimStore, SimWriting
from tests.simulation.monitor_node import SimMonitorStore, hazard
from tests.simulation.parts import Parts
from tests.simulation.trainer_node import SimUpstream

SEEDS_MAX = 400


class _UnguardedWriting(SimWriting):
    def move_job(self, guard: Guard, job: Job) -> bool:
        if self._interloper is not None and job.job_id not in self.touched:
            self._interloper(job.job_id)
            self._touch(job.job_id)
        stored = self._records.jobs.get(job.job_id)
        if stored is None:
            return False
        return super().move_job(Guard(stored.state, stored.attempt), job)


class UnguardedStore(SimStore):
    """Writes a move whatever the job has become meanwhile."""

    writing_class = _UnguardedWriting


class UnfencedRegistry:
    """Takes every report for a current one, and fences nothing."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def register(self, registration: Registration) -> RegisterAnswer:
        """Names nothing stale."""
        answer: RegisterAnswer = self._inner.register(registration)
        return replace(answer, stale_runs=())

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        """Fences nothing."""
        answer: HeartbeatAnswer = self._inner.heartbeat(beat)
        stops = tuple(order for order in answer.stops if order.mode is not StopMode.FENCE)
        return replace(answer, stops=stops)

    def report_run(self, reporter: Reporter, report: RunReport) -> JobState:
        """Takes it."""
        try:
            state: JobState = self._inner.report_run(reporter, report)
        except StaleAttempt:
            return JobState.RUNNING
        return state

    def begin_publish(self, reporter: Reporter, key: RunKey) -> JobState:
        """Grants it."""
        try:
            state: JobState = self._inner.begin_publish(reporter, key)
        except StaleAttempt:
            return JobState.PUBLISHING
        return state


def _unfenced(scheduler: Scheduler) -> Scheduler:
    registry: Any = UnfencedRegistry(scheduler.registry)
    return replace(scheduler, registry=registry)


class CursorFirstStore(SimMonitorStore):
    """Moves the cursors in a transaction of their own, before the entries are stored."""

    def _carry_out(self, plan: Plan, now: float) -> Appended:
        for stream, cursor in plan.cursors.items():
            self._cursors.pop(stream, None)
            self._cursors[stream] = cursor
        if plan.cursors:
            hazard("between the cursor and its entries")
        return super()._carry_out(plan, now)


class AbsenceStops(SimUpstream):
    """Ends what a heartbeat's answer does not name."""

    async def _obey(self, answer: pb.HeartbeatResponse) -> None:
        await super()._obey(answer)
        named = {(one.job, one.attempt) for one in answer.assignments}
        for run in self._supervisor.active():
            if (run.key.job, run.key.attempt) not in named:
                await self._supervisor.fence(run.key)


PLANTED: Mapping[str, Parts] = MappingProxyType(
    {
        "the guard of a move is dropped": Parts(store_class=UnguardedStore),
        "the fencing check is skipped": Parts(wrap_scheduler=_unfenced),
        "the cursor moves outside its transaction": Parts(monitor_store_class=CursorFirstStore),
        "absence stops a run": Parts(upstream_class=AbsenceStops),
    }
)


def seeds_to_find(parts: Parts, seeds: Sequence[int]) -> tuple[int, str] | None:
    """How many seeds it took, and the invariant that was broken; None if it was not found."""
    found = first_violation(seeds, parts)
    return (found[0], found[1].violations[0].invariant) if found else None


def print_table(start: int) -> int:
    """The table of docs/simulation.md; 0 if all were found."""
    missed = 0
    for name, parts in PLANTED.items():
        found = seeds_to_find(parts, range(start, start + SEEDS_MAX))
        missed += found is None
        said = f"{found[0]} | `{found[1]}`" if found else "not found |"
        print(f"| {name} | {said} |", flush=True)
    return 1 if missed else 0
