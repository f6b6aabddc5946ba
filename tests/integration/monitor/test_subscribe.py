"""What subscribers get: every entry once and in order, or word of what is missing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tunewright.v1 import feed_pb2, monitor_service_pb2
from tunewright.wire.status import rich_error

from monitor_svc.domain.records import Retention
from tests.integration.monitor.processes import (
    connected,
    read_count,
    read_until_end,
    subscribed,
)
from tests.integration.monitor.served import Served, served_from_memory, served_from_sqlite
from tests.support.eventually import eventually
from tests.unit.monitor.made_entries import (
    created,
    event,
    line,
    metrics,
    payloads,
    sequences,
    succeeded,
)

JOB = "jobs/a"
OTHER = "jobs/b"
NOW = monitor_service_pb2.START_POSITION_NOW


@pytest.mark.parametrize("seed", range(6))
async def test_subscribers_that_come_go_and_resume_see_each_entry_once(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    total = 600

    async def write(served: Served) -> None:
        written = 0
        while written < total:
            size = min(chance.randint(1, 40), total - written)
            batch = [metrics(JOB, written + n) for n in range(size)]
            await served.append(*batch, event(OTHER))
            written += size
            await asyncio.sleep(chance.uniform(0, 0.004))
        await served.append(succeeded(JOB))

    async def subscribe(stub: Any, own: random.Random) -> list[int]:
        await asyncio.sleep(own.uniform(0, 0.2))
        seen: list[int] = []
        while True:
            after = seen[-1] if seen else 0
            leave_after = own.randint(1, 300)
            count = 0
            async with subscribed(
                stub, jobs=[JOB], after_sequence=after, until_terminal=True
            ) as call:
                async for answer in call:
                    seen += sequences(answer.entries)
                    count += len(answer.entries)
                    if count > leave_after:
                        break
                else:
                    return seen

    async with served_from_sqlite(tmp_path) as served, connected(served.address) as stub:
        writing = asyncio.create_task(write(served))
        own = [random.Random(seed * 100 + n) for n in range(12)]
        everybody = await asyncio.wait_for(
            asyncio.gather(*(subscribe(stub, one) for one in own)), 60
        )
        await writing

    for seen in everybody:
        assert seen == list(range(1, total + 2))


@pytest.mark.parametrize("seed", range(4))
async def test_label_subscribers_that_resume_by_token_see_each_entry_once(seed: int) -> None:
    chance = random.Random(seed)
    jobs = [f"jobs/j{n}" for n in range(8)]
    labels = {job: {"team": "a" if n % 2 else "b"} for n, job in enumerate(jobs)}
    wanted = {job for job in jobs if labels[job]["team"] == "a"}
    rounds = 40

    async def write(served: Served) -> None:
        for _ in range(rounds):
            batch = [event(job) for job in jobs]
            chance.shuffle(batch)
            await served.append(*batch, labels=labels)
            await asyncio.sleep(chance.uniform(0, 0.003))

    async def subscribe(stub: Any, own: random.Random) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        token = ""
        while len(seen) < rounds * len(wanted):
            leave_after = own.randint(1, 60)
            async with subscribed(stub, label_selector={"team": "a"}, resume_token=token) as call:
                got = 0
                while got < leave_after and len(seen) < rounds * len(wanted):
                    answer = await call.read()
                    seen += [(entry.job, entry.sequence) for entry in answer.entries]
                    token = answer.resume_token
                    got += len(answer.entries)
        return seen

    async with served_from_memory() as served, connected(served.address) as stub:
        writing = asyncio.create_task(write(served))
        own = [random.Random(seed * 100 + n) for n in range(8)]
        everybody = await asyncio.wait_for(
            asyncio.gather(*(subscribe(stub, one) for one in own)), 60
        )
        await writing

    for seen in everybody:
        for job in wanted:
            assert [s for j, s in seen if j == job] == list(range(1, rounds + 1))
        assert {job for job, _ in seen} == wanted


async def test_more_than_a_page_is_read_from_the_store() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        for _ in range(13):
            await served.append(*(event(JOB) for _ in range(100)), event(OTHER))
        async with subscribed(stub, jobs=[JOB, OTHER]) as call:
            entries = await read_count(call, 1313)

    assert [e.sequence for e in entries if e.job == JOB] == list(range(1, 1301))
    assert [e.sequence for e in entries if e.job == OTHER] == list(range(1, 14))


async def test_what_is_published_out_of_order_is_served_in_the_logs_order() -> None:
    labels = {JOB: {"team": "a"}}
    async with served_from_memory() as served, connected(served.address) as stub:
        async with (
            subscribed(stub, jobs=[JOB]) as by_name,
            subscribed(stub, label_selector={"team": "a"}) as by_label,
        ):
            await served.append(event(JOB), labels=labels)
            seen = [await read_count(call, 1) for call in (by_name, by_label)]
            first = await served.store_only(event(JOB))
            second = await served.store_only(event(JOB))

            await served.hub.publish(second)
            await served.hub.publish(first)
            seen_then = [await read_count(call, 2) for call in (by_name, by_label)]

    assert [sequences(entries) for entries in seen] == [[1], [1]]
    assert [sequences(entries) for entries in seen_then] == [[2, 3], [2, 3]]


async def test_several_jobs_go_on_by_their_token() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(event(JOB), event(OTHER), event(JOB))
        async with subscribed(stub, jobs=[JOB, OTHER]) as call:
            first = await call.read()
            second = await call.read()
        await served.append(event(OTHER), event(JOB))

        async with subscribed(stub, jobs=[JOB, OTHER], resume_token=first.resume_token) as call:
            rest = await read_count(call, 5 - len(first.entries))
        async with subscribed(stub, jobs=[JOB, OTHER], resume_token=second.resume_token) as call:
            last = await read_count(call, 2)

    places = [(entry.job, entry.sequence) for entry in [*first.entries, *rest]]
    assert sorted(places) == [(JOB, 1), (JOB, 2), (JOB, 3), (OTHER, 1), (OTHER, 2)]
    assert sorted((entry.job, entry.sequence) for entry in last) == [(JOB, 3), (OTHER, 2)]


async def test_from_now_on_means_after_the_attachment() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(event(JOB), labels={JOB: {"team": "a"}})
        async with (
            subscribed(stub, jobs=[JOB], start=NOW) as by_name,
            subscribed(stub, label_selector={"team": "a"}, start=NOW) as by_label,
        ):
            await served.append(event(JOB))

            seen = [await read_count(call, 1) for call in (by_name, by_label)]

    assert [sequences(entries) for entries in seen] == [[2], [2]]


async def test_a_job_not_yet_heard_of_is_waited_for() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        reading = asyncio.create_task(read_until_end(stub, jobs=[JOB], until_terminal=True))
        await eventually(lambda: served.hub.subscriber_count() == 1)

        await served.append(created(JOB), succeeded(JOB))

        assert sequences(await reading) == [1, 2]


async def test_a_stream_of_several_jobs_ends_after_the_last_end() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(created(JOB), succeeded(JOB))
        reading = asyncio.create_task(read_until_end(stub, jobs=[JOB, OTHER], until_terminal=True))
        await served.append(created(OTHER))
        await eventually(lambda: served.hub.subscriber_count() == 1)

        await served.append(succeeded(OTHER))

        assert sorted(sequences(await reading)) == [1, 1, 2, 2]


async def test_resuming_after_the_end_ends_at_once() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(created(JOB), succeeded(JOB))

        entries = await read_until_end(stub, jobs=[JOB], after_sequence=2, until_terminal=True)

    assert entries == []


async def test_left_out_kinds_keep_their_sequences_and_the_end() -> None:
    kinds = [monitor_service_pb2.ENTRY_KIND_LOG]
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(event(JOB), line(JOB, "one"))
        async with subscribed(stub, jobs=[JOB], kinds=kinds, until_terminal=True) as call:
            stored = await read_count(call, 1)
            await served.append(event(JOB), line(JOB, "two"), succeeded(JOB))
            live = await read_count(call, 1)
            end = await call.read()

    assert sequences(stored + live) == [2, 4]
    assert end is grpc.aio.EOF


async def test_an_idle_stream_is_kept_alive() -> None:
    async with served_from_memory(keepalive_seconds=0.2) as served:
        async with connected(served.address) as stub, subscribed(stub, jobs=[JOB]) as call:
            answers = [await asyncio.wait_for(call.read(), 10) for _ in range(2)]

    for answer in answers:
        assert payloads(answer.entries) == ["keepalive"]
        assert answer.entries[0].sequence == 0


async def test_coming_back_from_before_retention_says_what_is_missing() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(*(event(JOB) for _ in range(10)), labels={JOB: {"team": "a"}})
        served.store.trim(Retention(entries_per_job_max=3), 2.0, 100)

        async with subscribed(stub, jobs=[JOB], after_sequence=2) as call:
            by_name = await read_count(call, 4)
        async with subscribed(stub, label_selector={"team": "a"}) as call:
            by_label = await read_count(call, 4)
        async with subscribed(stub, jobs=[JOB], after_sequence=7) as call:
            whole = await read_count(call, 3)

    gap = by_name[0].gap
    assert (gap.reason, gap.first_sequence, gap.last_sequence) == ("RETENTION", 3, 7)
    assert sequences(by_name) == sequences(by_label) == sequences(whole) == [8, 9, 10]
    assert by_label[0].gap.last_sequence == 7
    assert not whole[0].HasField("gap")


async def test_a_slow_reader_loses_samples_then_its_stream_and_nobody_else_does() -> None:
    text = "x" * 16_000
    async with served_from_memory() as served, connected(served.address) as stub:
        async with connected(served.address) as slow_stub:
            slow = slow_stub.Subscribe(
                monitor_service_pb2.SubscribeRequest(jobs=[JOB], wait_for_job=True)
            )
            await slow.initial_metadata()
            await eventually(lambda: served.hub.subscriber_count() == 1)
            reading = asyncio.create_task(read_until_end(stub, jobs=[JOB], until_terminal=True))
            await eventually(lambda: served.hub.subscriber_count() == 2)

            # The wire holds some megabytes of these; then the slow one's buffer fills.
            for _ in range(40):
                await served.append(*(line(JOB, text) for _ in range(16)))
            for step in range(40):
                await served.append(*(metrics(JOB, step * 100 + n) for n in range(100)))
            for _ in range(100):
                await served.append(*(line(JOB, "small") for _ in range(20)))
            await served.append(succeeded(JOB))
            quick = await reading
            entries, failure = await _read_to_failure(slow)

    assert sequences(quick) == list(range(1, 40 * 16 + 4000 + 2000 + 2))
    assert rich_error(failure).reason == "SLOW_SUBSCRIBER"
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert int(rich_error(failure).metadata["last_sequence"]) == _told(entries)[-1]
    assert _told(entries) == list(range(1, _told(entries)[-1] + 1))


async def test_coalesced_samples_are_named_and_logs_are_kept() -> None:
    text = "x" * 16_000
    async with served_from_memory() as served, connected(served.address) as stub:
        slow = stub.Subscribe(
            monitor_service_pb2.SubscribeRequest(jobs=[JOB], until_terminal=True, wait_for_job=True)
        )
        await slow.initial_metadata()
        await eventually(lambda: served.hub.subscriber_count() == 1)

        for _ in range(50):
            await served.append(*(line(JOB, text) for _ in range(16)))
        for step in range(40):
            await served.append(*(metrics(JOB, step * 100 + n) for n in range(100)))
        await served.append(succeeded(JOB))
        entries = [entry async for answer in slow for entry in answer.entries]

    gaps = [entry.gap for entry in entries if entry.HasField("gap")]
    assert {gap.reason for gap in gaps} == {"SLOW_SUBSCRIBER"}
    assert sum(1 for entry in entries if entry.HasField("log_line")) == 800
    assert _told(entries) == list(range(1, 800 + 4000 + 2))


async def test_logs_by_tail_and_follow() -> None:
    request = monitor_service_pb2.StreamLogsRequest
    async with served_from_memory() as served, connected(served.address) as stub:
        await served.append(line(JOB, "1"), event(JOB), line(JOB, "2"), line(JOB, "3"))

        there_is = await _logs(stub.StreamLogs(request(job=JOB)))
        tail = await _logs(stub.StreamLogs(request(job=JOB, tail_lines=2)))
        after = await _logs(stub.StreamLogs(request(job=JOB, after_sequence=3)))
        following = asyncio.create_task(
            _logs(stub.StreamLogs(request(job=JOB, tail_lines=1, follow=True)))
        )
        await eventually(lambda: served.hub.subscriber_count() == 1)
        await served.append(line(JOB, "4"), succeeded(JOB))

        assert there_is == ["1", "2", "3"]
        assert tail == ["2", "3"]
        assert after == ["3"]
        assert await following == ["3", "4"]


async def test_nothing_is_kept_of_those_who_left() -> None:
    async with served_from_memory() as served, connected(served.address) as stub:
        async with subscribed(stub, jobs=[JOB, OTHER]):
            assert served.hub.subscriber_count() == 1

        await eventually(lambda: served.hub.subscriber_count() == 0)
        assert served.hub._by_job == {}


async def _logs(call: Any) -> list[str]:
    async with asyncio.timeout(20):
        return [entry.log_line.text async for answer in call for entry in answer.entries]


async def _read_to_failure(call: Any) -> tuple[list[feed_pb2.Entry], grpc.aio.AioRpcError]:
    entries: list[feed_pb2.Entry] = []
    async with asyncio.timeout(30):
        try:
            async for answer in call:
                entries += answer.entries
        except grpc.aio.AioRpcError as error:
            return entries, error
    raise AssertionError("the stream did not fail")


def _told(entries: list[feed_pb2.Entry]) -> list[int]:
    """All sequences that came, or of which a gap said that they are missing."""
    told: list[int] = []
    for entry in entries:
        if entry.HasField("gap"):
            told += range(entry.gap.first_sequence, entry.gap.last_sequence + 1)
        elif entry.sequence:
            told.append(entry.sequence)
    return told
