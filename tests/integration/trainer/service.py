"""A trainer service as a real process, and stubs to talk to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import grpc.aio
from tunewright.v1 import (
    feed_pb2,
    feed_pb2_grpc,
    registry_service_pb2,
    spec_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)

from tests.integration.trainer.patience import eventually

if TYPE_CHECKING:
    from tunewright.v1.feed_pb2_grpc import FeedServiceAsyncStub
    from tunewright.v1.trainer_service_pb2_grpc import TrainerServiceAsyncStub

SCRIPT = Path(__file__).with_name("scripted_service.py")
ROOT = Path(__file__).parents[3]


def scripted_spec(*actions: Sequence[Any], output_dir: str = "out") -> spec_pb2.JobSpec:
    """A CPU job whose child does these actions."""
    return spec_pb2.JobSpec(
        model=spec_pb2.ModelSource(name="some/model"),
        train_data=[spec_pb2.DataSource(source="some/data")],
        backend=spec_pb2.BACKEND_QLORA,
        resources=spec_pb2.Resources(accelerator=spec_pb2.ACCELERATOR_CPU),
        output_dir=output_dir,
        system_prompt=json.dumps(actions),
    )


class TrainerService:
    """One service on one folder; it can be killed and started again."""

    def __init__(self, folder: Path, scheduler: str) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.outputs = folder / "outputs"
        self.scheduler = scheduler
        self.log = folder / "service.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.aio.Channel | None = None

    def arguments(self) -> list[str]:
        flags = {
            "listen": "127.0.0.1:0",
            "name": "host-a",
            "scheduler": self.scheduler,
            "workspace": str(self.workspace),
            "artifacts": str(self.folder / "artifacts"),
            "outputs": str(self.outputs),
            "cpu-slots": "2",
            "ready-file": str(self.folder / "ready"),
            "disk-bytes-free-min": "0",
            "sample-interval-seconds": "0.5",
            "drain-seconds": "1",
            "stop-margin-seconds": "1",
        }
        pairs = ([f"--{name}", value] for name, value in flags.items())
        return [sys.executable, str(SCRIPT), *(one for pair in pairs for one in pair)]

    async def start(self, crash_point: str = "") -> None:
        """Starts it and waits until it serves."""
        self.spawn(crash_point)
        await eventually(lambda: self._ready(crash_point), 20, "service ready")

    def spawn(self, crash_point: str = "") -> None:
        """Starts it."""
        (self.folder / "ready").unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TUNEWRIGHT_CRASH_POINT": crash_point}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.arguments(), stdout=log, stderr=log, env=environment
            )

    def _ready(self, crash_point: str) -> bool:
        """It serves; or has already come to the point that it is to die at, as it may."""
        assert self.process is not None
        ended = self.process.poll()
        if crash_point and ended == -signal.SIGKILL:
            return True
        assert ended is None, self.log.read_text()
        return (self.folder / "ready").exists()

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM; its exit code."""
        return await self._end(signal.SIGTERM)

    async def wait_killed(self) -> None:
        """Until a crash point has ended it."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.wait, 30)
        assert code == -signal.SIGKILL, self.log.read_text()
        await self._close()

    async def _end(self, number: signal.Signals) -> int:
        await self._close()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, 30)
        self.process = None
        return code

    async def _close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    @property
    def channel(self) -> grpc.aio.Channel:
        if self._channel is None:
            address = json.loads((self.folder / "ready").read_text())["address"]
            self._channel = grpc.aio.insecure_channel(address)
        return self._channel

    @property
    def trainer(self) -> TrainerServiceAsyncStub:
        return trainer_service_pb2_grpc.TrainerServiceStub(self.channel)

    @property
    def feed(self) -> FeedServiceAsyncStub:
        return feed_pb2_grpc.FeedServiceStub(self.channel)

    @property
    def uuid(self) -> str:
        return str(self.json_of_workspace()["workspace_uuid"])

    def run_folder(self, job: str, attempt: int = 1) -> Path:
        return self.workspace / "runs" / job / str(attempt)

    def json(self, job: str, file: str, attempt: int = 1) -> dict[str, Any]:
        """A file of a run's folder; empty if it is not there."""
        path = self.run_folder(job, attempt) / file
        return cast("dict[str, Any]", json.loads(path.read_text())) if path.exists() else {}

    def json_of_workspace(self) -> dict[str, Any]:
        """workspace.json."""
        return cast("dict[str, Any]", json.loads((self.workspace / "workspace.json").read_text()))

    async def runs(self) -> list[registry_service_pb2.RunStatus]:
        answer = await self.trainer.ListRuns(trainer_service_pb2.ListRunsRequest())
        return list(answer.runs)

    async def read_feed(
        self, streams: set[str], cursors: dict[str, int] | None = None, epoch: int = 1
    ) -> dict[str, list[feed_pb2.Entry]]:
        """The entries of these streams, read until each one ends."""
        found: dict[str, list[feed_pb2.Entry]] = {stream: [] for stream in streams}
        request = feed_pb2.StreamFeedRequest(
            reader="monitors/test", epoch=epoch, cursors=self.cursors(cursors or {})
        )
        call = self.feed.StreamFeed(request)
        left = set(streams)
        try:
            async with asyncio.timeout(20):
                async for batch in call:
                    if batch.cursor.stream in found:
                        found[batch.cursor.stream].extend(batch.entries)
                        left -= {batch.cursor.stream} if batch.end else set()
                    if not left:
                        break
        finally:
            call.cancel()
        return found

    def cursors(self, positions: dict[str, int]) -> list[feed_pb2.FeedCursor]:
        return [
            feed_pb2.FeedCursor(source=self.uuid, stream=stream, position=position)
            for stream, position in positions.items()
        ]


def end_leftovers(workspace: Path) -> None:
    """Kills what the runs of a test left behind: shims and what is below them."""
    for file in workspace.glob("runs/*/*/process.json"):
        recorded = json.loads(file.read_text())
        for name in ("child", "shim"):
            identity = recorded.get(name) or {}
            pid = identity.get("pid")
            if pid and _start_ticks(pid) == identity.get("start_ticks"):
                os.kill(pid, signal.SIGKILL)


def _start_ticks(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def is_running(pid: int) -> bool:
    """True for a living process; a zombie is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment_names(pid: int) -> list[str]:
    """The names in a process's environment."""
    text = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8", errors="replace")
    return [one.partition("=")[0] for one in text.split("\0") if one]


def mapped_files(pid: int) -> str:
    """What a process has mapped: its libraries are among it."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


def run_to_end(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """A service that is expected to refuse to start."""
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
