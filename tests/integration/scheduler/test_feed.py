"""The scheduler's feed over a real connection."""

import asyncio

import grpc
import grpc.aio
import pytest
from tunewright.v1 import feed_pb2, fleet_service_pb2, job_pb2, job_service_pb2
from tunewright.wire.status import rich_error

from tests.integration.scheduler.harness import (
    SchedulerHandle,
    a_job,
    creation,
    refusal_of,
    running_scheduler,
    until,
)

Stream = grpc.aio.UnaryStreamCall[feed_pb2.StreamFeedRequest, feed_pb2.FeedBatch]


def reading(
    epoch: int = 1, cursors: tuple[feed_pb2.FeedCursor, ...] = ()
) -> feed_pb2.StreamFeedRequest:
    return feed_pb2.StreamFeedRequest(
        reader="monitors/one", reader_address="127.0.0.1:7401", epoch=epoch, cursors=cursors
    )


async def entries_of(stream: Stream, count: int) -> list[feed_pb2.Entry]:
    """The next `count` entries."""
    found: list[feed_pb2.Entry] = []
    while len(found) < count:
        batch = await stream.read()
        assert isinstance(batch, feed_pb2.FeedBatch)
        found += batch.entries
    return found


async def test_a_reader_sees_what_was_and_what_comes_in_order(scheduler):
    first = await scheduler.jobs.CreateJob(creation(a_job("runs/1")))
    stream = scheduler.feed.StreamFeed(reading())
    was = await entries_of(stream, 1)

    second = await scheduler.jobs.CreateJob(creation(a_job("runs/2")))
    await scheduler.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=first.name))
    comes = await entries_of(stream, 2)

    stream.cancel()
    assert [(entry.job, entry.state_change.to) for entry in (*was, *comes)] == [
        (first.name, job_pb2.JOB_STATE_QUEUED),
        (second.name, job_pb2.JOB_STATE_QUEUED),
        (first.name, job_pb2.JOB_STATE_CANCELLED),
    ]
    assert all(entry.sequence == 0 for entry in (*was, *comes))


async def test_a_reader_that_comes_back_goes_on_after_its_cursor(scheduler):
    for index in range(3):
        await scheduler.jobs.CreateJob(creation(a_job(f"runs/{index}"), job_id=f"job-{index}"))
    stream = scheduler.feed.StreamFeed(reading())
    cursor = feed_pb2.FeedCursor()
    seen = 0
    while seen < 3:
        batch = await stream.read()
        seen += len(batch.entries)
        cursor.CopyFrom(batch.cursor)
    stream.cancel()
    await scheduler.jobs.CreateJob(creation(a_job("runs/later"), job_id="later"))

    again = scheduler.feed.StreamFeed(reading(cursors=(cursor,)))
    entries = await entries_of(again, 1)

    again.cancel()
    endpoints = await scheduler.fleet.GetEndpoints(fleet_service_pb2.GetEndpointsRequest())
    assert (cursor.source, cursor.stream) == (endpoints.database_uuid, "events")
    assert [entry.job for entry in entries] == ["jobs/later"]


async def test_a_silent_feed_sends_keepalives(scheduler):
    stream = scheduler.feed.StreamFeed(reading())

    batch = await stream.read()

    stream.cancel()
    assert batch == feed_pb2.FeedBatch()


async def test_a_reader_is_found_through_the_endpoints(scheduler):
    stream = scheduler.feed.StreamFeed(reading())
    await stream.read()

    endpoints = await scheduler.fleet.GetEndpoints(fleet_service_pb2.GetEndpointsRequest())

    stream.cancel()
    assert list(endpoints.monitors) == ["127.0.0.1:7401"]
    assert endpoints.database_uuid
    assert endpoints.version


async def test_an_older_epoch_is_refused_and_its_open_stream_ends(scheduler):
    old = scheduler.feed.StreamFeed(reading(epoch=1))
    await old.read()
    new = scheduler.feed.StreamFeed(reading(epoch=2))
    await new.read()

    late = await refusal_of(scheduler.feed.StreamFeed(reading(epoch=1)).read())
    acknowledged = await refusal_of(
        scheduler.feed.AckFeed(
            feed_pb2.AckFeedRequest(
                reader="monitors/one", epoch=1, cursors=[await own_cursor(scheduler, 1)]
            )
        )
    )
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        while True:
            await old.read()

    new.cancel()
    for refused in (late, acknowledged, rich_error(ended.value)):
        assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "STALE_READER")


async def test_a_reader_without_a_name_is_refused(scheduler):
    refused = await refusal_of(
        scheduler.feed.StreamFeed(
            feed_pb2.StreamFeedRequest(reader="somebody", reader_address="nowhere")
        ).read()
    )

    assert {violation.field for violation in refused.violations} == {"reader", "reader_address"}


async def test_a_deleted_job_goes_once_its_events_are_acknowledged(scheduler):
    job = await scheduler.jobs.CreateJob(creation())
    name = job.name
    stream = scheduler.feed.StreamFeed(reading())
    await entries_of(stream, 1)
    await scheduler.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=name))
    deleted = await scheduler.jobs.DeleteJob(job_service_pb2.DeleteJobRequest(name=name))
    still_there = await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=name))

    await scheduler.feed.AckFeed(
        feed_pb2.AckFeedRequest(
            reader="monitors/one", epoch=1, cursors=[await own_cursor(scheduler, 2**53)]
        )
    )

    assert deleted.HasField("delete_time")
    assert still_there.HasField("delete_time")
    await until(lambda: _is_gone(scheduler, name))
    stream.cancel()


async def test_a_drain_ends_streams_at_once_and_says_why(config):
    async with running_scheduler(config) as scheduler:
        stream = scheduler.feed.StreamFeed(reading())
        await stream.read()

        stopping = asyncio.create_task(scheduler.service.stop())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while True:
                await stream.read()
        await stopping

    assert rich_error(ended.value).reason == "DRAINING"


async def test_a_feed_goes_on_after_the_scheduler_was_replaced(config):
    async with running_scheduler(config) as first:
        await first.jobs.CreateJob(creation(a_job("runs/1"), job_id="one"))
        stream = first.feed.StreamFeed(reading())
        batch = await stream.read()
        assert isinstance(batch, feed_pb2.FeedBatch)
        stream.cancel()
    async with running_scheduler(config) as second:
        await second.jobs.CreateJob(creation(a_job("runs/2"), job_id="two"))

        again = second.feed.StreamFeed(reading(cursors=(batch.cursor,)))
        entries = await entries_of(again, 1)
        again.cancel()

    assert [entry.job for entry in entries] == ["jobs/two"]


async def own_cursor(scheduler: SchedulerHandle, position: int) -> feed_pb2.FeedCursor:
    endpoints = await scheduler.fleet.GetEndpoints(fleet_service_pb2.GetEndpointsRequest())
    return feed_pb2.FeedCursor(source=endpoints.database_uuid, stream="events", position=position)


async def _is_gone(scheduler: SchedulerHandle, name: str) -> bool:
    try:
        await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=name))
    except grpc.aio.AioRpcError as error:
        return rich_error(error).code == "NOT_FOUND"
    return False
