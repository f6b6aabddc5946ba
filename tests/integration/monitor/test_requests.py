"""Pages, series, and what MonitorService refuses."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from tunewright.v1 import feed_pb2
from tunewright.v1 import monitor_service_pb2 as pb
from tunewright.wire.status import RichError, rich_error

from monitor_svc.domain.records import Retention
from tests.integration.monitor.processes import connected
from tests.integration.monitor.served import served_from_memory
from tests.unit.monitor.made_entries import event, line, metrics, payloads, sequences

JOB = "jobs/a"
# Numbers that the contract does not have.
UNKNOWN: Any = [0, 99]


async def refused(call: Any) -> RichError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "read"):
            await call.read()
        else:
            await call
    return rich_error(caught.value)


async def test_pages_follow_by_their_token() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(*(event(JOB) for _ in range(5)))
        pages: list[list[int]] = []
        token = ""
        while not pages or token:
            request = pb.ListEntriesRequest(job=JOB, page_size=2, page_token=token)
            answer = await stub.ListEntries(request)
            token = answer.next_page_token
            pages.append(sequences(answer.entries))

    assert pages == [[1, 2], [3, 4], [5]]


async def test_pages_by_kind_and_after_a_sequence() -> None:
    kinds = [pb.ENTRY_KIND_LOG]
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(line(JOB, "1"), event(JOB), line(JOB, "2"))

        logs = await stub.ListEntries(pb.ListEntriesRequest(job=JOB, kinds=kinds))
        after = await stub.ListEntries(pb.ListEntriesRequest(job=JOB, after_sequence=1))

    assert sequences(logs.entries) == [1, 3]
    assert sequences(after.entries) == [2, 3]
    assert not logs.next_page_token


async def test_a_page_from_before_retention_begins_with_a_gap() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(*(event(JOB) for _ in range(5)))
        served.store.trim(Retention(entries_per_job_max=1), 2.0, 10)

        answer = await stub.ListEntries(pb.ListEntriesRequest(job=JOB))

    assert payloads(answer.entries) == ["gap", "event"]
    assert answer.entries[0].gap.last_sequence == 4


async def test_pages_stay_within_a_message() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        for _ in range(10):
            await served.append(*(line(JOB, "x" * 16_000) for _ in range(40)))

        first = await stub.ListEntries(pb.ListEntriesRequest(job=JOB, page_size=1000))
        token = first.next_page_token
        rest = await stub.ListEntries(
            pb.ListEntriesRequest(job=JOB, page_size=1000, page_token=token)
        )
        last = await stub.ListEntries(
            pb.ListEntriesRequest(job=JOB, page_size=1000, page_token=rest.next_page_token)
        )

    seen = sequences([*first.entries, *rest.entries, *last.entries])
    assert seen == list(range(1, 401))


async def test_a_series_keeps_its_extremes_and_the_later_attempt() -> None:
    losses = {step: 2.0 - step / 1000 for step in range(1000)} | {333: 9.0, 666: -1.0}
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(*(metrics(JOB, step, 5.0) for step in range(10)), event(JOB))
        await served.append(*(metrics(JOB, step, loss, 2) for step, loss in losses.items()))
        evaluation = feed_pb2.EvalMetrics(step=7, loss=0.5)
        await served.append(feed_pb2.Entry(job=JOB, eval_metrics=evaluation))

        request = pb.GetMetricSeriesRequest(job=JOB, metric="loss", points_max=20)
        series = await stub.GetMetricSeries(request)
        short = await stub.GetMetricSeries(pb.GetMetricSeriesRequest(job=JOB, metric="eval_loss"))
        none = await stub.GetMetricSeries(pb.GetMetricSeriesRequest(job=JOB, metric="grad_norm"))

    points = {point.step: point.value for point in series.points}
    assert series.points_total == 1000
    assert len(series.points) <= 20
    assert points[0] == 2.0
    assert points[333] == 9.0
    assert points[666] == -1.0
    assert list(points) == sorted(points)
    assert 999 in points
    assert [(point.step, point.value) for point in short.points] == [(7, 0.5)]
    assert none.points_total == 0


async def test_every_known_metric_can_be_asked_for() -> None:
    known = (
        "loss learning_rate grad_norm tokens_per_second token_accuracy eval_loss "
        "eval_token_accuracy host_memory_bytes gpu_memory_bytes_max"
    )
    full = feed_pb2.TrainMetrics(
        step=1,
        loss=1,
        learning_rate=1,
        grad_norm=1,
        tokens_per_second=1,
        host_memory_bytes=1,
        gpu_memory_bytes_max=1,
        token_accuracy=1,
    )
    evaluated = feed_pb2.EvalMetrics(step=1, loss=1, token_accuracy=1)
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(
            feed_pb2.Entry(job=JOB, train_metrics=full),
            feed_pb2.Entry(job=JOB, eval_metrics=evaluated),
        )

        for metric in known.split():
            series = await stub.GetMetricSeries(pb.GetMetricSeriesRequest(job=JOB, metric=metric))
            assert [(p.step, p.value) for p in series.points] == [(1, 1.0)], metric


async def test_a_job_that_nobody_has_heard_of() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        refusals = [
            await refused(stub.ListEntries(pb.ListEntriesRequest(job=JOB))),
            await refused(stub.GetMetricSeries(pb.GetMetricSeriesRequest(job=JOB, metric="loss"))),
            await refused(stub.StreamLogs(pb.StreamLogsRequest(job=JOB))),
            await refused(stub.StreamLogs(pb.StreamLogsRequest(job=JOB, follow=True))),
            await refused(stub.Subscribe(pb.SubscribeRequest(jobs=[JOB]))),
        ]

    for refusal in refusals:
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")
        assert refusal.message == f"job not found: {JOB}"
        assert refusal.metadata["job"] == JOB


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.SubscribeRequest(jobs=["a", "trainers/x"]), ["jobs[0]", "jobs[1]"]),
        (pb.SubscribeRequest(jobs=[JOB] * 1001), ["jobs"]),
        (pb.SubscribeRequest(jobs=[JOB], label_selector={"a": "b"}), ["label_selector"]),
        (pb.SubscribeRequest(until_terminal=True), ["until_terminal"]),
        (pb.SubscribeRequest(jobs=[JOB], after_sequence=-1), ["after_sequence"]),
        (pb.SubscribeRequest(jobs=[JOB, "jobs/b"], after_sequence=1), ["after_sequence"]),
        (pb.SubscribeRequest(jobs=[JOB], resume_token="?"), ["resume_token"]),
        (pb.SubscribeRequest(jobs=[JOB], resume_token="bm9uZQ"), ["resume_token"]),
        (pb.SubscribeRequest(jobs=[JOB], resume_token="eyJwIjo1fQ"), ["resume_token"]),
        (pb.SubscribeRequest(jobs=[JOB], resume_token="eyJqIjp7ImEiOi0xfX0"), ["resume_token"]),
        (pb.SubscribeRequest(jobs=[JOB], kinds=UNKNOWN), ["kinds[0]", "kinds[1]"]),
        (pb.SubscribeRequest(jobs=[JOB], start=UNKNOWN[1]), ["start"]),
        (pb.SubscribeRequest(wait_for_job=True), ["wait_for_job"]),
    ],
)
async def test_bad_subscriptions_name_their_fields(
    request_: pb.SubscribeRequest, fields: list[str]
) -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        refusal = await refused(stub.Subscribe(request_))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [violation.field for violation in refusal.violations] == fields


async def test_other_bad_requests_name_their_fields() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(event(JOB))
        listing = await refused(
            stub.ListEntries(
                pb.ListEntriesRequest(job="x", page_size=1001, page_token="%", after_sequence=-1)
            )
        )
        series = await refused(
            stub.GetMetricSeries(pb.GetMetricSeriesRequest(job=JOB, metric="Loss", points_max=1))
        )
        logs = await refused(
            stub.StreamLogs(pb.StreamLogsRequest(job=JOB, tail_lines=-1, wait_for_job=True))
        )

    assert [violation.field for violation in listing.violations] == [
        "job",
        "page_size",
        "after_sequence",
        "page_token",
    ]
    assert [violation.field for violation in series.violations] == ["points_max", "metric"]
    assert "eval_loss" in series.violations[1].description
    assert [violation.field for violation in logs.violations] == ["tail_lines", "wait_for_job"]
