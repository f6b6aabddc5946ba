"""Watches of both clients against a real monitor that goes away and comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from tunewright import AsyncClient, Client, errors
from tunewright.v1 import feed_pb2, job_pb2, monitor_service_pb2
from tunewright.wire.reasons import Reason
from tunewright.wire.status import RichError, make_error

from tests.integration.sdk.fake_services import FakeMonitor, FakeScheduler, Served
from tests.support.eventually import eventually, eventually_sync

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED


@pytest.fixture
def job(scheduler: FakeScheduler) -> str:
    return scheduler.add("a")


@pytest.fixture
def finished(monitor: FakeMonitor, job: str) -> str:
    for step in range(1, 10):
        monitor.step(job, step)
    monitor.end(job, SUCCEEDED)
    return job


def test_a_watch_has_every_entry_once_and_ends_after_the_terminal_one(
    client: Client, finished: str
) -> None:
    with client.jobs.get(finished).watch() as watch:
        sequences = [entry.sequence for entry in watch]

    assert sequences == list(range(1, 11))
    assert watch.last_sequence == 10


async def test_an_async_watch_has_the_same_entries(
    client: Client, async_client: AsyncClient, finished: str
) -> None:
    with client.jobs.get(finished).watch() as watch:
        expected = list(watch)

    async with (await async_client.jobs.get(finished)).watch() as async_watch:
        found = [entry async for entry in async_watch]

    assert found == expected


def test_a_watch_goes_on_where_the_monitor_broke_off(
    client: Client, monitor: FakeMonitor, finished: str
) -> None:
    monitor.break_after = [3, 0, 4]
    interruptions: list[errors.ApiError] = []

    with client.jobs.get(finished).watch(
        on_interruption=lambda failure, delay: interruptions.append(failure)
    ) as watch:
        sequences = [entry.sequence for entry in watch]

    assert sequences == list(range(1, 11))
    assert [request.after_sequence for request in monitor.requests] == [0, 3, 3, 7]
    assert [type(failure) for failure in interruptions] == [errors.Unavailable] * 3


async def test_an_async_watch_goes_on_where_the_monitor_broke_off(
    async_client: AsyncClient, monitor: FakeMonitor, finished: str
) -> None:
    monitor.break_after = [3, 0, 4]

    async with (await async_client.jobs.get(finished)).watch() as watch:
        sequences = [entry.sequence async for entry in watch]

    assert sequences == list(range(1, 11))


def test_an_entry_that_is_sent_again_is_handed_out_once(
    client: Client, monitor: FakeMonitor, finished: str
) -> None:
    monitor.break_after = [5]
    monitor.resend = 2

    with client.jobs.get(finished).watch() as watch:
        sequences = [entry.sequence for entry in watch]

    assert sequences == list(range(1, 11))


def test_a_watch_survives_a_monitor_that_is_stopped_and_started_again(
    client: Client, monitor: FakeMonitor, monitor_server: Served, job: str
) -> None:
    for step in range(1, 4):
        monitor.step(job, step)
    with client.jobs.get(job).watch() as watch:
        sequences = [next(watch).sequence for _ in range(3)]
        monitor_server.stop()
        monitor.step(job, 4)
        monitor.end(job, SUCCEEDED)
        monitor_server.start()
        sequences += [entry.sequence for entry in watch]

    assert sequences == [1, 2, 3, 4, 5]


async def test_an_async_watch_survives_a_monitor_that_is_stopped_and_started_again(
    async_client: AsyncClient, monitor: FakeMonitor, monitor_server: Served, job: str
) -> None:
    for step in range(1, 4):
        monitor.step(job, step)
    async with (await async_client.jobs.get(job)).watch() as watch:
        sequences = [(await anext(watch)).sequence for _ in range(3)]
        await asyncio.to_thread(monitor_server.stop)
        monitor.step(job, 4)
        monitor.end(job, SUCCEEDED)
        monitor_server.start()
        sequences += [entry.sequence async for entry in watch]

    assert sequences == [1, 2, 3, 4, 5]


def test_a_watch_finds_the_monitor_that_took_over(
    client: Client, scheduler: FakeScheduler, monitor: FakeMonitor, monitor_server: Served, job: str
) -> None:
    monitor.step(job, 1)
    with client.jobs.get(job).watch() as watch:
        first = next(watch)
        monitor_server.stop()
        successor = monitor.serve()
        scheduler.monitors = [successor.address]
        monitor.end(job, SUCCEEDED)
        rest = list(watch)
    successor.stop()

    assert [first.sequence, *(entry.sequence for entry in rest)] == [1, 2]


def test_a_watch_waits_while_there_is_no_monitor(
    client: Client, scheduler: FakeScheduler, monitor_server: Served, finished: str
) -> None:
    scheduler.monitors = []
    told: list[str] = []

    def appear(failure: errors.ApiError, delay: float) -> None:
        told.append(failure.reason)
        scheduler.monitors = [monitor_server.address]

    with client.jobs.get(finished).watch(on_interruption=appear) as watch:
        assert len(list(watch)) == 10

    assert told == [Reason.NO_MONITOR]


def test_a_slow_subscriber_goes_on_after_what_it_has(
    client: Client, monitor: FakeMonitor, finished: str
) -> None:
    monitor.failures = [make_error(Reason.SLOW_SUBSCRIBER, "too slow", {"last_sequence": "0"})]

    with client.jobs.get(finished).watch() as watch:
        assert [entry.sequence for entry in watch] == list(range(1, 11))


def test_a_watch_that_is_refused_for_good_raises(
    client: Client, monitor: FakeMonitor, finished: str
) -> None:
    monitor.failures = [make_error(Reason.UNAUTHENTICATED, "who are you?")]

    with (
        client.jobs.get(finished).watch() as watch,
        pytest.raises(errors.Unauthenticated, match="who are you"),
    ):
        next(watch)


def test_a_watch_gives_up_when_it_was_told_to(
    client: Client, monitor_server: Served, finished: str
) -> None:
    monitor_server.stop()

    with (
        client.jobs.get(finished).watch(give_up_seconds=0.2) as watch,
        pytest.raises(errors.Unavailable, match="cannot reach the monitor"),
    ):
        next(watch)


def test_a_gap_is_handed_out_and_not_asked_for_again(
    client: Client, monitor: FakeMonitor, job: str
) -> None:
    gap = feed_pb2.Gap(reason="RETENTION", first_sequence=1, last_sequence=5)
    monitor.entries.append(feed_pb2.Entry(job=job, gap=gap))
    monitor.break_after = [1]

    with client.jobs.get(job).watch() as watch:
        entry = next(watch)
        eventually_sync(lambda: next_request_in_background(watch, monitor), what="reconnects")

    assert entry.gap.last_sequence == 5
    assert monitor.requests[1].after_sequence == 5


def next_request_in_background(watch: Iterator[feed_pb2.Entry], monitor: FakeMonitor) -> bool:
    """Lets the watch read on, in a thread, until it has asked again."""
    if not any(thread.name == "reads on" for thread in threading.enumerate()):
        threading.Thread(target=lambda: next(watch, None), name="reads on", daemon=True).start()
    return len(monitor.requests) == 2


def test_leaving_the_block_ends_the_stream_on_the_server(
    client: Client, monitor: FakeMonitor, job: str
) -> None:
    monitor.step(job, 1)
    with client.jobs.get(job).watch() as watch:
        next(watch)
        assert monitor.active == 1

    eventually_sync(lambda: monitor.active == 0, what="the server's handler has ended")


async def test_leaving_the_async_block_ends_the_stream_on_the_server(
    async_client: AsyncClient, monitor: FakeMonitor, job: str
) -> None:
    monitor.step(job, 1)
    async with (await async_client.jobs.get(job)).watch() as watch:
        await anext(watch)

    await eventually(lambda: monitor.active == 0, what="the server's handler has ended")


async def test_cancelling_the_task_that_watches_is_not_swallowed(
    async_client: AsyncClient, job: str
) -> None:
    watch = (await async_client.jobs.get(job)).watch()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), watch:
            await anext(watch)


def test_a_watch_over_several_jobs_goes_on_by_its_token(
    client: Client, scheduler: FakeScheduler, monitor: FakeMonitor
) -> None:
    names = [scheduler.add("a"), scheduler.add("b")]
    for step in range(1, 4):
        for name in names:
            monitor.step(name, step)
    for name in names:
        monitor.end(name, SUCCEEDED)
    monitor.break_after = [3]

    with client.watch(["a", "b"]) as watch:
        found = [(entry.job, entry.sequence) for entry in watch]

    assert len(found) == len(set(found)) == 8
    assert monitor.requests[1].resume_token == "3"
    assert watch.resume_token == "8"


def test_a_watch_by_labels_sends_them_and_never_asks_for_an_end(
    client: Client, monitor: FakeMonitor
) -> None:
    monitor.step("jobs/a", 1)
    with client.watch(labels={"team": "a"}, kinds=["metrics"]) as watch:
        next(watch)

    [request] = monitor.requests
    assert request.label_selector == {"team": "a"}
    assert list(request.kinds) == [monitor_service_pb2.ENTRY_KIND_METRICS]
    assert not request.until_terminal


def test_watching_a_mistyped_job_raises_job_not_found(client: Client, monitor: FakeMonitor) -> None:
    monitor.missing = {"jobs/typo"}

    with client.watch(["typo"]) as watch, pytest.raises(errors.JobNotFound) as caught:
        next(watch)

    assert isinstance(caught.value, errors.NotFound)
    assert str(caught.value) == "job not found: jobs/typo"


async def test_an_async_watch_of_a_mistyped_job_raises_job_not_found(
    async_client: AsyncClient, monitor: FakeMonitor
) -> None:
    monitor.missing = {"jobs/typo"}

    async with async_client.watch(["typo"]) as watch:
        with pytest.raises(errors.JobNotFound, match="jobs/typo"):
            await anext(watch)


def test_getting_a_mistyped_job_raises_the_same(client: Client) -> None:
    with pytest.raises(errors.JobNotFound, match="jobs/typo"):
        client.jobs.get("typo")


async def test_a_job_that_the_monitor_has_not_heard_of_is_waited_for(
    client: Client, async_client: AsyncClient, monitor: FakeMonitor
) -> None:
    """Right after create, and where a watch over names says so."""
    job = client.jobs.create(model="m", train_data="d", output_dir="o")
    monitor.missing = {job.name}
    monitor.end(job.name, SUCCEEDED)

    with job.watch() as watch:
        assert [entry.sequence for entry in watch] == [1]
    async with (await async_client.jobs.get(job.name)).watch() as async_watch:
        assert [entry.sequence async for entry in async_watch] == [1]
    with client.watch([job.name], wait_for_job=True) as watch:
        assert [entry.sequence for entry in watch] == [1]


async def test_both_clients_read_the_receipts_of_a_job(
    client: Client, async_client: AsyncClient, monitor: FakeMonitor, job: str
) -> None:
    for part in ("train", "eval", "more"):
        monitor.append(job, data_prepared=feed_pb2.DataPrepared(part=part))

    found = client.jobs.get(job).receipts()

    assert [one.part for one in found] == ["train", "eval", "more"]
    assert await (await async_client.jobs.get(job)).receipts() == found


def test_an_unknown_kind_is_refused_with_the_kinds_there_are(client: Client) -> None:
    with pytest.raises(errors.InvalidRequest, match="'state' or 'metrics'"):
        client.watch(["a"], kinds=["metric"])


def test_logs_are_lines_and_metrics_are_series(
    client: Client, monitor: FakeMonitor, job: str
) -> None:
    for text in ("one", "two", "three"):
        monitor.append(job, log_line=feed_pb2.LogLine(text=text))
    points = [monitor_service_pb2.MetricPoint(step=1, value=2.5)]
    monitor.series["loss"] = monitor_service_pb2.MetricSeries(metric="loss", points=points)

    with client.jobs.get(job).logs(tail=2) as lines:
        assert list(lines) == ["two", "three"]
    assert client.jobs.get(job).metrics("loss").points[0].value == 2.5


async def test_async_logs_and_metrics(
    async_client: AsyncClient, monitor: FakeMonitor, job: str
) -> None:
    monitor.append(job, log_line=feed_pb2.LogLine(text="one"))
    monitor.series["loss"] = monitor_service_pb2.MetricSeries(metric="loss")
    found = await async_client.jobs.get(job)

    async with found.logs() as lines:
        assert [line async for line in lines] == ["one"]
    assert (await found.metrics("loss")).metric == "loss"


def test_metrics_are_asked_again_when_the_monitor_is_busy(
    client: Client, monitor: FakeMonitor, job: str
) -> None:
    monitor.series["loss"] = monitor_service_pb2.MetricSeries(metric="loss")
    monitor.failures = [RichError("UNAVAILABLE", "", "reset")]

    assert client.jobs.get(job).metrics("loss").metric == "loss"
