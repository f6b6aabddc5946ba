"""What the monitor takes in: nothing lost, nothing twice, ends last; with real processes."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import create_engine, make_url, text
from tunewright.v1 import job_pb2, trainer_pb2
from tunewright.wire.status import rich_error

from tests.integration.monitor.fake_sources import (
    EVENTS,
    FakeFeed,
    FakeScheduler,
    serving,
    serving_scheduler,
)
from tests.integration.monitor.processes import (
    Start,
    connected,
    eventually_stored,
    read_count,
    read_until_end,
    subscribed,
)
from tests.support.eventually import eventually
from tests.unit.monitor.made_entries import (
    created,
    event,
    metrics,
    payloads,
    sequences,
    state,
    succeeded,
)

JOB = "jobs/a"
SPOOL = "runs/a/1/spool"
TRAINER = "trainers/t"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_job_of_scheduler_and_trainer_ends_with_its_last_metric_before(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    trainer = FakeFeed("w-1", step=100)
    async with serving(trainer) as address:
        monitor = await start_monitor(discovery_seconds=60)
        # Listed only now: the entry that names it makes the monitor look.
        scheduler.add_trainer(TRAINER, address)
        trainer.silent = True
        trainer.say(SPOOL, *(metrics(JOB, step) for step in range(10)))
        trainer.end(SPOOL)
        scheduler.say(created(JOB), state(JOB, job_pb2.JOB_STATE_RUNNING, trainer=TRAINER))
        scheduler.say(succeeded(JOB, ("w-1", SPOOL, 1000)))
        async with connected(monitor.address) as stub:
            await eventually_stored(stub, JOB, 2)
            trainer.silent = False
            trainer.wake()

            entries = await read_until_end(stub, jobs=[JOB], until_terminal=True)

    assert sequences(entries) == list(range(1, 14))
    assert payloads(entries)[-2:] == ["train_metrics", "state_change"]


async def test_what_is_stored_is_acknowledged(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    scheduler.say(created(JOB), event(JOB))

    await start_monitor()

    await eventually(lambda: scheduler.feed.acks.get(EVENTS) == 2)


async def test_entries_offered_again_are_stored_once(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    scheduler.feed.copies = 3
    monitor = await start_monitor()

    for number in range(20):
        scheduler.say(event(JOB, f"E_{number}"))
        await asyncio.sleep(0)
    async with connected(monitor.address) as stub:
        await eventually_stored(stub, JOB, 20)
        scheduler.say(succeeded(JOB))
        entries = await read_until_end(stub, jobs=[JOB], until_terminal=True)

    assert [entry.event.type for entry in entries[:-1]] == [f"E_{n}" for n in range(20)]


@pytest.mark.parametrize("point", ["monitor.received", "monitor.stored"])
async def test_killed_around_the_store_nothing_is_lost_and_nothing_comes_twice(
    point: str, scheduler: FakeScheduler, start_monitor: Start
) -> None:
    monitor = await start_monitor()
    async with connected(monitor.address) as stub:
        scheduler.say(*(event(JOB, f"E_{n}") for n in range(5)))
        await eventually_stored(stub, JOB, 5)
        await monitor.kill()
        scheduler.say(*(event(JOB, f"E_{n}") for n in range(5, 10)))

        await monitor.start(TUNEWRIGHT_CRASH_POINT=point)
        await monitor.ended()
        await monitor.start()
        entries = await eventually_stored(stub, JOB, 10)

    assert f"crash point reached: {point}" in monitor.log
    assert [entry.event.type for entry in entries] == [f"E_{n}" for n in range(10)]
    assert sequences(entries) == list(range(1, 11))


async def test_held_ends_survive_a_restart(scheduler: FakeScheduler, start_monitor: Start) -> None:
    trainer = FakeFeed("w-1")
    async with serving(trainer) as address:
        scheduler.add_trainer(TRAINER, address)
        trainer.silent = True
        trainer.say(SPOOL, metrics(JOB, 1))
        scheduler.say(created(JOB), succeeded(JOB, ("w-1", SPOOL, 1)), event("jobs/b"))
        monitor = await start_monitor()
        await eventually(lambda: scheduler.feed.acks.get(EVENTS) == 3)
        await monitor.kill()

        await monitor.start()
        trainer.silent = False
        trainer.wake()
        async with connected(monitor.address) as stub:
            entries = await read_until_end(stub, jobs=[JOB], until_terminal=True)

    assert payloads(entries) == ["state_change", "train_metrics", "state_change"]


async def test_an_end_waits_no_longer_than_the_bound(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    scheduler.say(created(JOB), succeeded(JOB, ("gone", SPOOL, 10)))
    monitor = await start_monitor(hold_seconds_max=0.5)

    async with connected(monitor.address) as stub:
        entries = await read_until_end(stub, jobs=[JOB], until_terminal=True)

    assert payloads(entries) == ["state_change", "gap", "state_change"]
    assert entries[1].gap.reason == "SOURCE_LOST"


async def test_an_end_does_not_wait_for_a_trainer_that_is_lost(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    trainer = FakeFeed("w-1")
    async with serving(trainer) as address:
        scheduler.add_trainer(TRAINER, address)
        trainer.say(SPOOL, metrics(JOB, 1))
        scheduler.say(created(JOB))
        monitor = await start_monitor()
        async with connected(monitor.address) as stub:
            await eventually_stored(stub, JOB, 2)
    scheduler.say(succeeded(JOB, ("w-1", SPOOL, 10)))
    scheduler.add_trainer(TRAINER, address, trainer_pb2.TRAINER_STATE_LOST)

    async with connected(monitor.address) as stub:
        entries = await read_until_end(stub, jobs=[JOB], until_terminal=True)

    assert payloads(entries)[-2:] == ["gap", "state_change"]


async def test_trainers_are_read_while_the_scheduler_is_down(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    async with serving_scheduler(FakeScheduler("db-2")) as short_lived:
        trainer = FakeFeed("w-1")
        async with serving(trainer) as address:
            short_lived.add_trainer(TRAINER, address)
            trainer.say(SPOOL, metrics(JOB, 1))
            monitor = await start_monitor()
            await monitor.kill()
            monitor.scheduler = short_lived.address
            await monitor.start()
            async with connected(monitor.address) as stub:
                await eventually_stored(stub, JOB, 1)
            await monitor.kill()
            monitor.scheduler = "127.0.0.1:9"  # nobody there
            trainer.say(SPOOL, metrics(JOB, 2))

            await monitor.start()

            async with connected(monitor.address) as stub:
                entries = await eventually_stored(stub, JOB, 2)
    assert [entry.train_metrics.step for entry in entries] == [1, 2]


async def test_a_new_workspace_on_an_old_address_is_a_new_source(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    first, second = FakeFeed("w-1"), FakeFeed("w-2")
    async with serving(first) as address:
        scheduler.add_trainer(TRAINER, address)
        first.say(SPOOL, metrics(JOB, 1), metrics(JOB, 2))
        monitor = await start_monitor()
        async with connected(monitor.address) as stub:
            await eventually_stored(stub, JOB, 2)
    second.say(SPOOL, metrics(JOB, 3))

    async with serving(second, address), connected(monitor.address) as stub:
        entries = await eventually_stored(stub, JOB, 3)

    assert [entry.train_metrics.step for entry in entries] == [1, 2, 3]


async def test_of_two_monitors_on_one_postgres_one_reads_and_both_serve(
    scheduler: FakeScheduler, start_monitor: Start, postgres_database: str
) -> None:
    first = await start_monitor("first", postgres_database)
    second = await start_monitor("second", postgres_database)
    async with connected(first.address) as one, connected(second.address) as other:
        async with subscribed(one, jobs=[JOB]) as here, subscribed(other, jobs=[JOB]) as there:
            scheduler.say(created(JOB), *(event(JOB) for _ in range(50)))
            seen_here = await read_count(here, 51)
            seen_there = await read_count(there, 51)

    assert sequences(seen_here) == sequences(seen_there) == list(range(1, 52))
    assert {request.reader for request in scheduler.feed.requests} == {"monitors/first"}


async def test_another_monitor_takes_over_and_the_old_one_stores_nothing_more(
    scheduler: FakeScheduler, start_monitor: Start, postgres_database: str
) -> None:
    first = await start_monitor("first", postgres_database)
    second = await start_monitor("second", postgres_database)
    async with connected(second.address) as stub:
        scheduler.say(*(event(JOB, f"E_{n}") for n in range(5)))
        await eventually_stored(stub, JOB, 5)
        first.send(signal.SIGSTOP)  # it does not know that it is late
        scheduler.say(*(event(JOB, f"E_{n}") for n in range(5, 10)))
        await eventually_stored(stub, JOB, 10)

        first.send(signal.SIGCONT)
        scheduler.say(*(event(JOB, f"E_{n}") for n in range(10, 15)))
        entries = await eventually_stored(stub, JOB, 15)

    assert [entry.event.type for entry in entries] == [f"E_{n}" for n in range(15)]
    epochs = [request.epoch for request in scheduler.feed.requests]
    assert len(set(epochs)) > 1
    assert scheduler.feed.requests[-1].reader == "monitors/second"


async def test_labels_that_could_not_be_had_are_made_good(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    scheduler.jobs_are_away = True
    scheduler.labels = {JOB: {"team": "a"}, "jobs/b": {"team": "b"}}
    monitor = await start_monitor()
    async with connected(monitor.address) as stub:
        async with subscribed(stub, label_selector={"team": "a"}) as call:
            scheduler.say(created(JOB), event(JOB), created("jobs/b"))
            await eventually_stored(stub, "jobs/b", 1)

            scheduler.jobs_are_away = False
            entries = await read_count(call, 2)
            scheduler.say(event("jobs/b"), event(JOB))
            entries += await read_count(call, 1)

    assert [(entry.job, entry.sequence) for entry in entries] == [(JOB, 1), (JOB, 2), (JOB, 3)]


async def test_changed_labels_are_read_again(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    scheduler.labels = {JOB: {"team": "a"}}
    scheduler.say(created(JOB))
    monitor = await start_monitor()
    async with connected(monitor.address) as stub:
        await eventually_stored(stub, JOB, 1)
        async with subscribed(stub, label_selector={"team": "b"}, start=2) as call:
            scheduler.labels = {JOB: {"team": "b"}}
            scheduler.say(event(JOB, "LABELS_CHANGED"), event(JOB, "AFTER"))

            entries = await read_count(call, 2)

    assert entries[-1].event.type == "AFTER"


async def test_a_database_that_goes_away_costs_health_and_no_entry(
    scheduler: FakeScheduler, start_monitor: Start, postgres_url: str, postgres_database: str
) -> None:
    monitor = await start_monitor("m", postgres_database)
    scheduler.say(event(JOB, "E_0"))
    async with connected(monitor.address) as stub, subscribed(stub, jobs=[JOB]) as call:
        await read_count(call, 1)

        await asyncio.to_thread(allow_connections, postgres_url, postgres_database, False)
        scheduler.say(event(JOB, "E_1"))
        await _eventually_healthy(monitor.address, NOT_SERVING)
        await asyncio.to_thread(allow_connections, postgres_url, postgres_database, True)
        rest = await read_count(call, 1)
        await _eventually_healthy(monitor.address, SERVING)

    assert [entry.event.type for entry in rest] == ["E_1"]
    assert sequences(rest) == [2]


async def test_sigterm_sends_subscribers_elsewhere(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    monitor = await start_monitor()
    async with connected(monitor.address) as stub, subscribed(stub, jobs=[JOB]) as call:
        scheduler.say(event(JOB))
        await read_count(call, 1)

        code, failed = await asyncio.gather(monitor.end(signal.SIGTERM), _failure(call))

    assert code == 0
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    assert rich_error(failed).reason == "DRAINING"


async def _failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return caught.value


async def _eventually_healthy(address: str, wanted: object) -> None:
    async def has_status() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="tunewright.v1.MonitorService")
            return bool((await stub.Check(request)).status == wanted)

    healthy: bool = await eventually(has_status, 20)
    assert healthy


def allow_connections(server_url: str, database_url: str, allowed: bool) -> None:
    """Ends a database's connections and lets no new ones in, or lets them in again."""
    name = make_url(database_url).database
    url = make_url(server_url).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {allowed}'))
        if not allowed:
            ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            connection.execute(text(ending), {"name": name})
    engine.dispose()
