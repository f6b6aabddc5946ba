"""Jobs that do not exist, and jobs of which the monitor has not heard yet."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from tunewright.v1 import monitor_service_pb2 as pb
from tunewright.wire.status import RichError, rich_error

from tests.integration.monitor.fake_sources import FakeScheduler, serving_scheduler
from tests.integration.monitor.processes import (
    Start,
    connected,
    read_count,
    read_until_end,
    subscribed,
)
from tests.integration.monitor.served import JOB_WAIT_SECONDS, served_from_memory
from tests.support.eventually import eventually
from tests.unit.monitor.made_entries import created, event, sequences, succeeded

JOB = "jobs/a"
OTHER = "jobs/b"


async def refused(call: Any) -> RichError:
    """What a stream or a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    return rich_error(caught.value)


async def test_of_several_jobs_the_missing_one_is_named() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(event(JOB))
        served.jobs.existing.add("jobs/new")

        request = pb.SubscribeRequest(jobs=[JOB, "jobs/new", "jobs/typo", OTHER])
        refusal = await refused(stub.Subscribe(request))

    assert (refusal.code, refusal.metadata["job"]) == ("NOT_FOUND", "jobs/typo")
    assert JOB not in served.jobs.asked


async def test_a_thousand_mistyped_jobs_do_not_cost_the_scheduler_a_thousand_calls() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        request = pb.SubscribeRequest(jobs=[f"jobs/typo-{n}" for n in range(1000)])
        refusal = await refused(stub.Subscribe(request))

    assert refusal.metadata["job"] == "jobs/typo-0"
    assert len(served.jobs.asked) <= 16


async def test_a_job_that_only_the_scheduler_knows_has_no_entries_yet() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        served.jobs.existing.add(JOB)

        listed = await stub.ListEntries(pb.ListEntriesRequest(job=JOB))
        series = await stub.GetMetricSeries(pb.GetMetricSeriesRequest(job=JOB, metric="loss"))
        lines = [one async for one in stub.StreamLogs(pb.StreamLogsRequest(job=JOB))]
        async with subscribed(stub, jobs=[JOB], wait_for_job=False) as call:
            await served.append(created(JOB))
            [entry] = await read_count(call, 1)

    assert (list(listed.entries), series.points_total, lines) == ([], 0, [])
    assert entry.sequence == 1


@pytest.mark.parametrize("method", ["Subscribe", "StreamLogs", "ListEntries", "GetMetricSeries"])
async def test_while_nobody_can_be_asked_an_unknown_job_is_unavailable_within_the_bound(
    method: str,
) -> None:
    requests = {
        "Subscribe": pb.SubscribeRequest(jobs=[JOB]),
        "StreamLogs": pb.StreamLogsRequest(job=JOB, follow=True),
        "ListEntries": pb.ListEntriesRequest(job=JOB),
        "GetMetricSeries": pb.GetMetricSeriesRequest(job=JOB, metric="loss"),
    }
    async with served_from_memory() as served, connected(served.address) as stub:
        served.jobs.away = True
        started = time.monotonic()

        refusal = await refused(getattr(stub, method)(requests[method]))

    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "SCHEDULER_UNAVAILABLE")
    assert refusal.retry_delay_seconds
    assert JOB_WAIT_SECONDS <= time.monotonic() - started < JOB_WAIT_SECONDS + 5


async def test_while_nobody_can_be_asked_what_is_stored_is_served_and_the_feed_is_waited_for() -> (
    None
):
    async with served_from_memory() as served, connected(served.address) as stub:
        served.jobs.away = True
        await served.append(event(JOB))

        listed = await stub.ListEntries(pb.ListEntriesRequest(job=JOB))
        reading = asyncio.create_task(
            read_until_end(stub, jobs=[OTHER], until_terminal=True, wait_for_job=False)
        )
        await eventually(lambda: OTHER in served.jobs.asked)
        await served.append(created(OTHER), succeeded(OTHER))
        late = await reading

    assert sequences(listed.entries) == [1]
    assert sequences(late) == [1, 2]


async def test_one_who_asks_to_wait_waits_without_anybody_being_asked() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        reading = asyncio.create_task(
            read_until_end(stub, jobs=[JOB], until_terminal=True, wait_for_job=True)
        )
        await eventually(lambda: served.hub.subscriber_count() == 1)
        await served.append(created(JOB), succeeded(JOB))

        assert sequences(await reading) == [1, 2]
        assert served.jobs.asked == []


async def test_a_monitor_with_a_paused_feed_loses_no_new_job_and_refuses_a_mistyped_one(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    scheduler.feed.silent = True
    monitor = await start_monitor()
    # As after CreateJob: the scheduler has it, its feed has not brought it.
    scheduler.labels[JOB] = {}
    async with connected(monitor.address) as stub:
        reading = asyncio.create_task(
            read_until_end(stub, jobs=[JOB], until_terminal=True, wait_for_job=False)
        )
        refusal = await refused(stub.Subscribe(pb.SubscribeRequest(jobs=["jobs/typo"])))
        assert not reading.done()
        scheduler.say(created(JOB), succeeded(JOB))
        scheduler.feed.silent = False
        scheduler.feed.wake()
        entries = await reading

    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert sequences(entries) == [1, 2]


async def test_a_monitor_without_a_scheduler_says_so_and_knows_again_once_it_is_back(
    scheduler: FakeScheduler, start_monitor: Start
) -> None:
    monitor = await start_monitor(job_wait_seconds=0.5)
    scheduler.jobs_are_away = True
    typo = pb.SubscribeRequest(jobs=["jobs/typo"])

    async with connected(monitor.address) as stub:
        away = await refused(stub.Subscribe(typo))
        scheduler.jobs_are_away = False
        back = await refused(stub.Subscribe(typo))

    assert away.reason == "SCHEDULER_UNAVAILABLE"
    assert back.reason == "JOB_NOT_FOUND"


async def test_only_the_schedulers_own_word_counts_as_no(start_monitor: Start) -> None:
    """Something else at the scheduler's address says NOT_FOUND without a reason."""

    class Proxy(FakeScheduler):
        async def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
            await context.abort(grpc.StatusCode.NOT_FOUND, "no route")

    async with serving_scheduler(Proxy()) as proxy:
        monitor = await start_monitor("p", job_wait_seconds=0.2, scheduler=proxy.address)
        async with connected(monitor.address) as stub:
            refusal = await refused(stub.Subscribe(pb.SubscribeRequest(jobs=[JOB])))

    assert refusal.reason == "SCHEDULER_UNAVAILABLE"
