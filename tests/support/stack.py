"""The three services as real processes, for tests: started, killed and restarted by name.

Every process is ended by its own pid at the end, and so is every process
below a trainer's workspace, found by its TUNEWRIGHT_RUN marker.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.eventually import eventually_sync

READY_SECONDS = 60.0


@dataclass
class ServiceProcess:
    """One service: how it is started, and the process that it now is."""

    module: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    address: str = "127.0.0.1:0"

    @property
    def log_file(self) -> Path:
        """Everything that it printed, over all its lives."""
        return self.folder / f"{self.name}.log"

    @property
    def name(self) -> str:
        """The folder's name: "scheduler", "monitor", "trainer-a"."""
        return self.folder.name

    @property
    def pid(self) -> int:
        """Of the process that it now is."""
        assert self.process is not None, f"{self.name} is not started"
        return self.process.pid

    def start(self, **environment: str) -> ServiceProcess:
        """Starts it and waits until it serves; again on the address it had before."""
        self.spawn(**environment)
        ready = self.folder / "ready.json"
        eventually_sync(
            lambda: ready.exists() or self._ended(), READY_SECONDS, f"{self.name} serves"
        )
        assert ready.exists(), f"{self.name} ended:\n{self.log_file.read_text()[-4000:]}"
        self.address = json.loads(ready.read_text())["address"]
        return self

    def spawn(self, **environment: str) -> subprocess.Popen[bytes]:
        """Starts it without waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        argv = [sys.executable, "-m", self.module, "--listen", self.address]
        argv += ["--ready-file", str(ready), *self.arguments]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, **environment},
            )
        return self.process

    def kill(self) -> None:
        """SIGKILL, as a power cut would; waits until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(READY_SECONDS)

    def terminate(self) -> int:
        """SIGTERM; waits for the drain; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(READY_SECONDS)

    def stop(self) -> None:
        """Ends it however it can be ended. Safe to call twice."""
        if self.process is None or self._ended():
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@dataclass
class Stack:
    """A scheduler, a monitor and trainers, with SQLite, below one folder."""

    root: Path
    scheduler: ServiceProcess
    monitor: ServiceProcess
    trainers: dict[str, ServiceProcess] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The scheduler's: all that a client needs."""
        return self.scheduler.address

    @property
    def outputs(self) -> Path:
        """The output root."""
        return self.root / "outputs"

    @property
    def artifacts(self) -> Path:
        """The artifact store."""
        return self.root / "artifacts"

    def add_trainer(
        self,
        name: str,
        *,
        roots: Sequence[Path] = (),
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> ServiceProcess:
        """Starts another trainer, with a workspace of its own."""
        folder = self.root / f"trainer-{name}"
        arguments = ["--name", name, "--scheduler", self.address]
        arguments += ["--workspace", str(folder / "workspace"), "--artifacts", str(self.artifacts)]
        arguments += ["--outputs", str(self.outputs)]
        for path in (self.root, *roots):
            arguments += ["--model-roots", str(path), "--data-roots", str(path)]
        trainer = ServiceProcess("trainer_svc", [*arguments, *flags], folder, environment or {})
        self.trainers[name] = trainer.start()
        return trainer

    def stop(self) -> None:
        """Ends everything that it started, runs included."""
        for service in (*self.trainers.values(), self.monitor, self.scheduler):
            service.stop()
        for name in self.trainers:
            end_runs_below(self.root / f"trainer-{name}" / "workspace")


def end_runs_below(workspace: Path) -> None:
    """Kills the process trees of the runs in a workspace, found by their marker."""
    identity = workspace / "workspace.json"
    if not identity.exists():
        return
    marker = json.loads(identity.read_text())["workspace_uuid"]
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("TUNEWRIGHT_RUN", "").startswith(marker)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if mine:
            os.kill(process.pid, signal.SIGKILL)


@contextmanager
def running_stack(
    root: Path,
    *,
    trainers: Sequence[str] = ("a",),
    roots: Sequence[Path] = (),
    scheduler_flags: Sequence[str] = (),
    monitor_flags: Sequence[str] = (),
    trainer_flags: Sequence[str] = (),
    trainer_environment: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Scheduler, monitor and trainers, ready; all ended at the end."""
    scheduler = ServiceProcess(
        "scheduler_svc",
        ["--database-url", f"sqlite:///{root / 'scheduler.db'}", *scheduler_flags],
        root / "scheduler",
    ).start()
    monitor = ServiceProcess(
        "monitor_svc",
        [
            "--database-url", f"sqlite:///{root / 'monitor.db'}",
            "--scheduler", scheduler.address, *monitor_flags,
        ],
        root / "monitor",
    )  # fmt: skip
    stack = Stack(root, scheduler, monitor)
    try:
        monitor.start()
        for name in trainers:
            stack.add_trainer(
                name, roots=roots, flags=trainer_flags, environment=trainer_environment
            )
        yield stack
    finally:
        stack.stop()
