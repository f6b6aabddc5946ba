"""The monitor as a real process, and what a client sees of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from tunewright.v1 import feed_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from tests.support.eventually import eventually

# Times that suit a test; everything else is as delivered.
FAST = {
    "lease_seconds": "1",
    "discovery_seconds": "0.5",
    "label_refresh_seconds": "0.3",
    "keepalive_seconds": "5",
    "drain_seconds": "2",
}


@dataclass
class MonitorProcess:
    """One monitor: how it is started, and the process that it now is."""

    folder: Path
    scheduler: str
    database_url: str
    settings: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1:0"
    process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What it printed, over all its lives."""
        return (self.folder / "monitor.log").read_text()

    async def start(self, **environment: str) -> None:
        """Starts it, on the address that it had before, and waits until it serves."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "monitor_svc", "--listen", self.address]
        argv += ["--scheduler", self.scheduler, "--database-url", self.database_url]
        argv += ["--ready-file", str(ready)]
        for name, value in {**FAST, **self.settings}.items():
            argv += [f"--{name.replace('_', '-')}", value]
        with (self.folder / "monitor.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *argv, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        process = self.process
        await eventually(lambda: ready.exists() or process.returncode is not None, 30)
        assert ready.exists(), self.log[-4000:]
        self.address = json.loads(ready.read_text())["address"]

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> int:
        """Sends a signal and waits for the end."""
        self.send(number)
        return await self.ended()

    async def ended(self) -> int:
        """Waits for the end; the exit code."""
        assert self.process is not None
        return await self.process.wait()

    async def kill(self) -> int:
        """kill -9."""
        return await self.end(signal.SIGKILL)


Start = Callable[..., Awaitable[MonitorProcess]]


@asynccontextmanager
async def monitors(folder: Path, scheduler: str) -> AsyncIterator[Start]:
    """A function that starts monitors; all are ended at the end."""
    started: list[MonitorProcess] = []

    async def start(
        name: str = "m", database_url: str = "", environment: dict[str, str] | None = None, **s: Any
    ) -> MonitorProcess:
        own = folder / f"{name}-{len(started)}"
        own.mkdir()
        url = database_url or f"sqlite:///{folder}/{name}.db"
        reads = s.pop("scheduler", scheduler)
        settings = {"name": name, **{key: str(value) for key, value in s.items()}}
        monitor = MonitorProcess(own, reads, url, settings)
        started.append(monitor)
        await monitor.start(**(environment or {}))
        return monitor

    try:
        yield start
    finally:
        for monitor in started:
            await monitor.kill()


@asynccontextmanager
async def connected(
    address: str,
) -> AsyncIterator[monitor_service_pb2_grpc.MonitorServiceAsyncStub]:
    """A client of the monitor."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield monitor_service_pb2_grpc.MonitorServiceStub(channel)  # type: ignore[misc] # the aio one


@asynccontextmanager
async def subscribed(stub: Any, **request: Any) -> AsyncIterator[Any]:
    """An open, attached subscription. Jobs may come later, unless `wait_for_job` says no."""
    request = {"wait_for_job": bool(request.get("jobs")), **request}
    call = stub.Subscribe(monitor_service_pb2.SubscribeRequest(**request))
    await call.initial_metadata()
    try:
        yield call
    finally:
        call.cancel()


async def read_until_end(stub: Any, **request: Any) -> list[feed_pb2.Entry]:
    """All entries of a stream that ends by itself; keepalives left out."""
    entries: list[feed_pb2.Entry] = []
    async with asyncio.timeout(30), subscribed(stub, **request) as call:
        async for answer in call:
            entries += [entry for entry in answer.entries if not entry.HasField("keepalive")]
    return entries


async def read_count(call: Any, count: int) -> list[feed_pb2.Entry]:
    """The next entries of an open stream, `count` of them or a few more."""
    entries: list[feed_pb2.Entry] = []
    async with asyncio.timeout(30):
        while len(entries) < count:
            answer = await call.read()
            assert answer is not grpc.aio.EOF, f"ended after {len(entries)} entries"
            entries += [entry for entry in answer.entries if not entry.HasField("keepalive")]
    return entries


async def eventually_stored(stub: Any, job: str, count: int) -> list[feed_pb2.Entry]:
    """A job's entries once there are `count` of them."""

    async def listed() -> list[feed_pb2.Entry]:
        request = monitor_service_pb2.ListEntriesRequest(job=job, page_size=1000)
        try:
            answer = await stub.ListEntries(request, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return []
            raise
        entries = list(answer.entries)
        return entries if len([e for e in entries if e.sequence]) >= count else []

    return await eventually(listed, 20, f"{count} entries of {job}")
