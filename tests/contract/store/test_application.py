"""The use cases on every store: the whole life of a job, and callers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from scheduler_svc.application.creation import NewJob, NewJobOptions
from scheduler_svc.application.ports import Store
from scheduler_svc.domain.errors import ForbiddenMove, StaleAttempt
from scheduler_svc.domain.states import JobState
from svckit.refusal import Refusal
from tests.unit.scheduler.builders import gpus, spec
from tests.unit.scheduler.test_random_life import Life, check_feed
from tests.unit.scheduler.world import World, completed, published, runs

CALLERS = 8


def test_a_job_s_whole_life(store: Store) -> None:
    world = World(store)
    world.register("a", gpu_count=4)
    first = world.create("x", resources=gpus(2))
    second = world.create("y", resources=gpus(2, ids=("0", "3")))

    delivered = world.scheduler.dispatch.run()
    world.report(runs(first))
    world.silence(120)
    with pytest.raises(StaleAttempt):
        world.publish(first)
    world.beat("a", gpu_count=4)
    world.silence(10)
    world.beat("a", gpu_count=4)
    again = world.scheduler.dispatch.run()
    world.report(runs(first, 2))
    world.report(completed(first, 2))
    world.publish(first, 2)
    world.report(published(first, 2))

    taken = {one.assignment.key.job_id: one.assignment.gpu_ids for one in delivered}
    assert taken == {first: ("0", "1")}
    assert {one.assignment.key.job_id for one in again} == {first}
    assert world.state(first) is JobState.SUCCEEDED
    assert [host.slots for host in world.scheduler.fleet.list(9).hosts] == [()]
    [delivery] = world.scheduler.dispatch.run()
    assert delivery.assignment.key.job_id == second


def together(*works: Callable[[], object]) -> list[object]:
    """Runs these in threads that start at the same moment; a refusal is a result."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        gate.wait()
        try:
            return work()
        except Refusal as refusal:
            return refusal

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def test_eight_callers_with_one_request_id_get_one_job(store: Store) -> None:
    world = World(store)
    new, options = NewJob(spec()), NewJobOptions(request_id="r")

    made = together(*[lambda: world.scheduler.jobs.create(new, options).job.job_id] * CALLERS)

    assert len(set(made)) == 1
    assert len(world.entries()) == 1


def test_a_completion_and_a_cancel_at_once_agree_on_one_end(store: Store) -> None:
    world = World(store)
    job_id = world.started()

    cancelled, granted = together(
        lambda: world.scheduler.jobs.cancel(job_id), lambda: world.publish(job_id)
    )

    if isinstance(cancelled, ForbiddenMove):
        assert granted is JobState.PUBLISHING is world.state(job_id)
    else:
        assert isinstance(granted, ForbiddenMove)
        assert world.state(job_id) is JobState.CANCELLING


def test_slots_are_not_given_twice_while_everybody_talks_at_once(store: Store) -> None:
    world = World(store)
    world.register("a", cpu_slots=2)
    jobs = [world.create(f"out-{index}") for index in range(12)]

    results = together(
        lambda: [world.scheduler.jobs.cancel(job_id) for job_id in jobs[::2]],
        lambda: [world.create(f"more-{index}") for index in range(6)],
        lambda: [world.scheduler.dispatch.run() for _ in range(6)],
        lambda: [world.register("a", "i1", cpu_slots=2) for _ in range(6)],
    )

    assert [result for result in results if isinstance(result, Refusal)] == []
    with store.read() as tx:
        assert len(tx.held_slots()) <= 2
    check_feed(world)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_lives_keep_the_promises(store: Store, seed: int) -> None:
    life = Life(seed, store)

    for _ in range(40):
        life.step()
        life.check()

    life.check_feed()
