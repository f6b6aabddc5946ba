"""The feed of a trainer: cursors, torn lines, acknowledgements, one reader."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from grpc.aio import AioRpcError
from tunewright.v1 import feed_pb2
from tunewright.v1 import registry_service_pb2 as pb
from tunewright.wire.status import rich_error

from tests.integration.trainer.fake_scheduler import FakeScheduler
from tests.integration.trainer.patience import eventually
from tests.integration.trainer.service import TrainerService, scripted_spec

RUN = ("job-a", 1)
SPOOL = "runs/job-a/1/spool"
STDOUT = "runs/job-a/1/stdout"
SERVICE = "runs/job-a/1/service"


async def test_a_live_run_is_streamed_and_its_streams_end(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    script = scripted_spec(["print", "hello"], ["entries_until", str(go)], ["complete"])
    scheduler.assign(RUN, script)
    reading = asyncio.create_task(service.read_feed({SPOOL, STDOUT, SERVICE}))
    sampled = service.run_folder("job-a") / "service.jsonl"
    await eventually(lambda: sampled.exists() and "system_sample" in sampled.read_text())
    await eventually((service.run_folder("job-a") / "spool.jsonl").exists)

    go.touch()
    feed = await reading

    steps = [entry.train_metrics.step for entry in feed[SPOOL]]
    assert steps == list(range(1, len(steps) + 1))
    assert {(entry.job, entry.attempt) for entry in feed[SPOOL]} == {("jobs/job-a", 1)}
    assert [entry.log_line.text for entry in feed[STDOUT]] == ["hello"]
    kinds = [entry.WhichOneof("payload") for entry in feed[SERVICE]]
    assert "system_sample" in kinds
    assert feed[SERVICE][-1].event.type == "PUBLISHED"


async def test_a_cursor_resumes_where_it_was(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["entries", 600], ["fail", "X", "y"]))
    await eventually(lambda: scheduler.ended(RUN))
    positions = []
    call = service.feed.StreamFeed(feed_pb2.StreamFeedRequest(reader="monitors/m", epoch=1))
    async for batch in call:
        assert len(batch.entries) <= 256
        if batch.cursor.stream == SPOOL:
            positions.append(batch.cursor.position)
        if batch.cursor.stream == SPOOL and batch.end:
            break
    call.cancel()

    again = await service.read_feed({SPOOL}, {SPOOL: positions[0]})

    assert [entry.train_metrics.step for entry in again[SPOOL]] == list(range(257, 601))
    assert len(positions) >= 3


async def test_a_torn_line_is_a_warning_and_never_sent(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    torn = '{"train_metrics": {"step": "9'
    script = scripted_spec(["entries", 1], ["raw", "not json\n"], ["raw", torn], ["kill_self", 9])
    scheduler.assign(RUN, script)
    ended = await eventually(lambda: scheduler.ended(RUN))

    feed = await service.read_feed({SPOOL})

    kinds = [entry.event.type or entry.WhichOneof("payload") for entry in feed[SPOOL]]
    assert kinds == ["train_metrics", "MALFORMED_LINE", "TORN_LINE"]
    final = {one.stream: one.position for one in ended.final_cursors}
    assert final[SPOOL] == (service.run_folder("job-a") / "spool.jsonl").stat().st_size


async def test_half_a_line_waits_for_its_end_while_the_child_lives(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    go = service.folder / "go"
    half = ['{"event": {"type": ', '"WHOLE"}}\n']
    script = scripted_spec(
        ["entries", 1], ["raw", half[0]], ["wait_for", str(go)], ["raw", half[1]]
    )
    scheduler.assign(RUN, script)
    await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_RUNNING))
    reading = asyncio.create_task(service.read_feed({SPOOL}))
    beats = len(scheduler.heartbeats)
    await eventually(lambda: len(scheduler.heartbeats) > beats + 5)

    go.touch()
    feed = await reading

    assert [entry.event.type for entry in feed[SPOOL]] == ["", "WHOLE"]


async def test_a_long_printed_line_is_cut(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.assign(RUN, scripted_spec(["print", "x" * 20000], ["print", "ab\rcd"], ["exit", 1]))
    await eventually(lambda: scheduler.ended(RUN))

    feed = await service.read_feed({STDOUT})

    lines = [(len(one.log_line.text), one.log_line.truncated) for one in feed[STDOUT]]
    assert lines == [(16384, True), (2, False)]


async def test_a_folder_is_collected_once_it_is_read_and_acknowledged(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    scheduler.word.acknowledges = False
    scheduler.assign(RUN, scripted_spec(["entries", 1], ["print", "x"], ["complete"]))
    published = await eventually(lambda: scheduler.said(RUN, pb.RUN_PHASE_PUBLISHED))
    request = feed_pb2.AckFeedRequest(reader="monitors/m", epoch=1, cursors=published.final_cursors)
    await service.feed.AckFeed(request)
    await service.kill()
    await service.start()
    before = (service.run_folder("job-a") / "spool.jsonl").exists()

    scheduler.word.acknowledges = True
    await eventually(lambda: service.json("job-a", "marks.json").get("collected"))
    await eventually(lambda: not (service.run_folder("job-a") / "spool.jsonl").exists())

    assert before
    left = {one.name for one in service.run_folder("job-a").iterdir()}
    assert {"spec.json", "exit.json", "published.json"} <= left
    assert (await service.runs())[0].phase == pb.RUN_PHASE_PUBLISHED


async def test_a_reader_with_an_older_epoch_is_refused(
    service: TrainerService, scheduler: FakeScheduler
) -> None:
    old = service.feed.StreamFeed(feed_pb2.StreamFeedRequest(reader="monitors/a", epoch=1))
    waiting = asyncio.create_task(_reason_of(old))
    await service.feed.AckFeed(feed_pb2.AckFeedRequest(reader="monitors/b", epoch=2))

    refused = service.feed.StreamFeed(feed_pb2.StreamFeedRequest(reader="monitors/a", epoch=1))

    assert await _reason_of(refused) == "STALE_READER"
    assert await asyncio.wait_for(waiting, 10) == "STALE_READER"


async def test_a_draining_service_ends_its_streams(service: TrainerService) -> None:
    call = service.feed.StreamFeed(feed_pb2.StreamFeedRequest(reader="monitors/a", epoch=1))
    reading = asyncio.create_task(_reason_of(call))
    await call.wait_for_connection()
    assert service.process is not None

    os.kill(service.process.pid, signal.SIGTERM)

    assert await asyncio.wait_for(reading, 10) in ("DRAINING", "")


async def _reason_of(call: object) -> str:
    with pytest.raises(AioRpcError) as caught:
        async for _ in call:  # type: ignore[attr-defined] # a call is iterable
            pass
    return rich_error(caught.value).reason
