"""Random lives: whatever happens in whatever order, what is promised holds.

Trainers here are honest but unlucky: their messages come twice, late or never,
their hosts go silent, restart and reboot, and people press every button.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from tunewright.v1 import job_pb2

from scheduler_svc.application.ports import Store
from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.run import RunReport
from scheduler_svc.domain.states import MOVES, TERMINAL, JobState
from svckit.refusal import Refusal
from tests.unit.scheduler.world import World, completed, failed, published, runs, stopped

STEPS = 120
TRAINERS = "ab"
REPORTS: tuple[Callable[[JobId, int], RunReport], ...] = (
    runs, completed, failed, stopped, published
)  # fmt: skip


class Life:
    """One random history."""

    def __init__(self, seed: int, store: Store | None = None) -> None:
        self.random = random.Random(seed)
        self.world = World(store)
        self.incarnations = dict.fromkeys(TRAINERS, 1)
        self.jobs: list[JobId] = []
        self.attempts: dict[JobId, int] = {}
        self.ended: dict[JobId, JobState] = {}
        for name in TRAINERS:
            self.register(name)

    def register(self, name: str) -> None:
        listed = [self.report() for _ in range(self.random.randrange(3))] if self.jobs else []
        boot = f"boot-{self.random.randrange(1, 3)}"
        incarnation = f"i{self.incarnations[name]}"
        self.world.register(name, incarnation, *listed, boot_id=boot, cpu_slots=1)

    def report(self) -> RunReport:
        job_id = self.random.choice(self.jobs)
        attempt = max(1, self.world.view(job_id).job.attempt - self.random.choice((0, 0, 0, 1)))
        return self.random.choice(REPORTS)(job_id, attempt)

    def step(self) -> None:
        often = [self.tell] * 3 + [self.verb, self.grant, self.dispatch] * 2
        actions = [*often, self.create, self.beat, self.wait, self.restart]
        with suppress(Refusal):
            self.random.choice(actions)()

    def create(self) -> None:
        self.jobs.append(self.world.create(f"out-{len(self.jobs)}", backoff_seconds=1.0))

    def verb(self) -> None:
        jobs = self.world.scheduler.jobs
        verbs = [jobs.cancel, jobs.pause, jobs.resume, jobs.resume, jobs.abandon, jobs.delete]
        self.random.choice(verbs)(self.random.choice(self.jobs or [JobId("none")]))

    def tell(self) -> None:
        if self.jobs:
            name = self.random.choice(TRAINERS)
            self.world.report(self.report(), name, f"i{self.incarnations[name]}")

    def grant(self) -> None:
        if self.jobs:
            name = self.random.choice(TRAINERS)
            key = self.report().key
            self.world.publish(key.job_id, key.attempt, name, f"i{self.incarnations[name]}")

    def beat(self) -> None:
        name = self.random.choice(TRAINERS)
        listed = [self.report() for _ in range(self.random.randrange(3))] if self.jobs else []
        self.world.beat(name, *listed, incarnation=f"i{self.incarnations[name]}")

    def wait(self) -> None:
        for _ in range(self.random.choice((1, 5, 30, 130))):
            self.world.clock.advance(1)
            if self.random.random() < 0.3:
                self.world.scheduler.upkeep.run()

    def dispatch(self) -> None:
        self.world.scheduler.dispatch.run()

    def restart(self) -> None:
        if self.random.random() < 0.3:
            self.world.restarted()
            return
        name = self.random.choice(TRAINERS)
        self.incarnations[name] += 1
        self.register(name)

    def check(self) -> None:
        with self.world.store.read() as tx:
            slots = tx.held_slots()
            records = tx.jobs(self.jobs)
        for name in TRAINERS:
            assert sum(slot.trainer_id == name for slot in slots) <= 1
        for job_id, job in records.items():
            assert job.attempt >= self.attempts.get(job_id, 0)
            self.attempts[job_id] = job.attempt
            assert [one.attempt for one in job.attempts] == list(range(1, job.attempt + 1))
            assert all(one.end_time is not None for one in job.attempts[:-1])
            if job_id in self.ended:
                assert job.state is self.ended[job_id]
            if job.state in TERMINAL:
                self.ended[job_id] = job.state
            if job.state in (JobState.QUEUED, JobState.RECOVERING, JobState.PAUSED):
                assert job.current is None or job.current.end_time is not None

    def check_feed(self) -> None:
        check_feed(self.world)


def check_feed(world: World) -> None:
    """The feed tells each job's whole way, move by move, and grants once."""
    at: dict[str, int] = {}
    granted: dict[str, int] = {}
    for entry in world.entries():
        if not entry.HasField("state_change"):
            continue
        change = entry.state_change
        source, target = getattr(change, "from"), change.to
        assert source == at.get(entry.job, 0)
        at[entry.job] = target
        name = job_pb2.JobState.Name(target)
        if source:
            assert JobState(name) in MOVES[JobState(job_pb2.JobState.Name(source))]
        if name == JobState.PUBLISHING.value:
            granted[entry.job] = granted.get(entry.job, 0) + 1
    assert all(count == 1 for count in granted.values())


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_promises_hold(seed: int) -> None:
    life = Life(seed)

    for _ in range(STEPS):
        life.step()
        life.check()

    life.check_feed()
