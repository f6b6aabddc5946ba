"""Fan-out through a real monitor, against one entry to a message, in one run.

A made-up scheduler in a process of its own feeds the monitor (a real process,
SQLite); K subscribers in this process count what they get. Then a plain
grpc.aio server, also a process of its own, sends the same entries to as many
subscribers, one to a message, the naive fan-out. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from tunewright.v1 import (
    feed_pb2,
    feed_pb2_grpc,
    monitor_service_pb2,
    monitor_service_pb2_grpc,
)

from svckit.server import write_atomically

JOB = "jobs/bench"
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.server.max_pending_requests", 20_000))


def made_entry(number: int) -> feed_pb2.Entry:
    """A logging step as a trainer writes it."""
    metrics = feed_pb2.TrainMetrics(
        step=number, total_steps=100_000, epoch=0.1, loss=2.5, learning_rate=1e-4, grad_norm=0.7
    )
    return feed_pb2.Entry(job=JOB, attempt=1, train_metrics=metrics)


class _Source(feed_pb2_grpc.FeedServiceServicer):
    """Gives out its entries when told to."""

    def __init__(self, count: int, go: asyncio.Event) -> None:
        self._count = count
        self._go = go

    async def StreamFeed(  # noqa: N802 # gRPC's name
        self, request: feed_pb2.StreamFeedRequest, context: Any
    ) -> AsyncIterator[feed_pb2.FeedBatch]:
        first = max((cursor.position for cursor in request.cursors), default=0)
        await self._go.wait()
        for start in range(first, self._count, 128):
            end = min(start + 128, self._count)
            cursor = feed_pb2.FeedCursor(source="bench", stream="events", position=end)
            entries = [made_entry(number) for number in range(start, end)]
            yield feed_pb2.FeedBatch(cursor=cursor, entries=entries)
        await asyncio.Event().wait()

    async def AckFeed(  # noqa: N802 # gRPC's name
        self, request: feed_pb2.AckFeedRequest, context: Any
    ) -> feed_pb2.AckFeedResponse:
        return feed_pb2.AckFeedResponse()


class _Naive(monitor_service_pb2_grpc.MonitorServiceServicer):
    """One entry to a message, from a queue for each subscriber."""

    def __init__(self, count: int, go: asyncio.Event) -> None:
        self._queues: list[asyncio.Queue[feed_pb2.Entry]] = []
        self._count = count
        self._go = go

    async def Subscribe(  # noqa: N802 # gRPC's name
        self, request: monitor_service_pb2.SubscribeRequest, context: Any
    ) -> AsyncIterator[monitor_service_pb2.SubscribeResponse]:
        queue: asyncio.Queue[feed_pb2.Entry] = asyncio.Queue()
        self._queues.append(queue)
        await context.send_initial_metadata(())
        while True:
            yield monitor_service_pb2.SubscribeResponse(entries=[await queue.get()])

    async def feed(self) -> None:
        await self._go.wait()
        for number in range(1, self._count + 1):
            entry = made_entry(number)
            entry.sequence = number
            for queue in self._queues:
                queue.put_nowait(entry)
            if number % 32 == 0:
                await asyncio.sleep(0)


async def serve(kind: str, count: int, ready: Path) -> None:
    """Runs one of the made-up servers until it is killed; SIGUSR1 lets it begin."""
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, go.set)
    server = grpc.aio.server(options=_OPTIONS)
    naive = _Naive(count, go)
    if kind == "source":
        feed_pb2_grpc.add_FeedServiceServicer_to_server(_Source(count, go), server)
    else:
        monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server(naive, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    answer = json.dumps({"address": f"127.0.0.1:{port}"})
    await asyncio.to_thread(write_atomically, ready, answer)
    await asyncio.gather(server.wait_for_termination(), naive.feed())


async def subscribe_all(
    address: str, subscribers: int, count: int, feeding_pid: int
) -> dict[str, float]:
    """Attaches all, lets it begin, counts until everybody has everything."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = monitor_service_pb2_grpc.MonitorServiceStub(channel)
        request = monitor_service_pb2.SubscribeRequest(jobs=[JOB], wait_for_job=True)
        calls = [stub.Subscribe(request) for _ in range(subscribers)]
        await asyncio.gather(*(call.initial_metadata() for call in calls))
        started = time.monotonic()
        os.kill(feeding_pid, signal.SIGUSR1)
        counts = await asyncio.gather(*(_count(call, count) for call in calls))
        seconds = time.monotonic() - started
        for call in calls:
            call.cancel()
    return {
        "entries_per_second": subscribers * count / seconds,
        "entries_per_message": subscribers * count / sum(messages for messages, _ in counts),
        "gaps": sum(gaps for _, gaps in counts),
    }


async def _count(call: Any, count: int) -> tuple[int, int]:
    messages = gaps = last = 0
    while last < count:
        answer = await call.read()
        messages += 1
        for entry in answer.entries:
            if entry.sequence:
                last = entry.sequence
            gaps += entry.HasField("gap")
    return messages, gaps


@contextmanager
def running(argv: list[str], ready: Path, log: Path) -> Iterator[tuple[str, int]]:
    """Address and pid of a process that says in `ready` where it serves; ended at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *argv], stdout=output, stderr=output)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        yield json.loads(ready.read_text())["address"], process.pid
    finally:
        process.kill()
        process.wait()


def measure(folder: Path, subscribers: int, count: int) -> dict[str, object]:
    """Both, one after the other, on the same machine."""
    me = [__file__, "--entries", str(count), "--folder", str(folder), "--serve"]
    source_log, naive_log = folder / "source.log", folder / "naive.log"
    with running([*me, "source"], folder / "source.json", source_log) as (source, pid):
        monitor_argv = ["-m", "monitor_svc", "--listen", "127.0.0.1:0", "--scheduler", source]
        monitor_argv += ["--database-url", f"sqlite:///{folder}/monitor.db"]
        monitor_argv += ["--ready-file", str(folder / "monitor.json")]
        log = folder / "monitor.log"
        with running(monitor_argv, folder / "monitor.json", log) as (address, _):
            ours = asyncio.run(subscribe_all(address, subscribers, count, pid))
    with running([*me, "naive"], folder / "naive.json", naive_log) as (address, pid):
        naive = asyncio.run(subscribe_all(address, subscribers, count, pid))
    return {
        "benchmark": "fanout",
        "subscribers": subscribers,
        "entries": count,
        "monitor": {name: round(value, 1) for name, value in ours.items()},
        "one_entry_per_message": {name: round(value, 1) for name, value in naive.items()},
        "ratio": round(ours["entries_per_second"] / naive["entries_per_second"], 2),
    }


def main() -> None:
    """Reads the flags; measures, or is one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--entries", type=int, default=2_000)
    parser.add_argument("--serve", choices=("source", "naive"))
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.serve:
        ready = arguments.folder / f"{arguments.serve}.json"
        asyncio.run(serve(arguments.serve, arguments.entries, ready))
        return
    with tempfile.TemporaryDirectory(prefix="tunewright-fanout-") as folder:
        result = measure(Path(folder), arguments.subscribers, arguments.entries)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
