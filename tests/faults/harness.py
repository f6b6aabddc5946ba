"""An installation that tests break: three services as processes, quick times, scripted children.

Owns how it is started and looked at. What must hold afterwards is in
nothing_lost.py. Every process is ended by its own pid.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tunewright import Client
from tunewright.jobs import Job
from tunewright.v1 import trainer_pb2

from tests.support import scripted_training
from tests.support.alive import is_running
from tests.support.eventually import eventually_sync
from tests.support.proxy import Relay, relay_to
from tests.support.stack import ServiceProcess, end_runs_below

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0

# Nobody is lost unless a test asks for it with `quick_loss`.
SCHEDULER_FLAGS = [
    "--heartbeat-interval-seconds", "0.2", "--suspect-seconds", "3", "--lost-seconds", "60",
    "--dispatch-tick-seconds", "0.2", "--upkeep-tick-seconds", "0.1",
    "--progress-flush-seconds", "0.2", "--feed-poll-seconds", "0.1",
    "--trainer-call-seconds-max", "1", "--drain-seconds", "1",
]  # fmt: skip
QUICK_LOSS = ["--suspect-seconds", "1", "--lost-seconds", "2"]
MONITOR_FLAGS = ["--discovery-seconds", "0.5", "--lease-seconds", "2", "--drain-seconds", "1"]
TRAINER_FLAGS = [
    "--cpu-slots", "1", "--heartbeat-interval-seconds", "0.2", "--scheduler-timeout-seconds", "1",
    "--stop-grace-seconds", "1", "--fence-grace-seconds", "1", "--stop-margin-seconds", "1",
    "--sample-interval-seconds", "0.5", "--disk-bytes-free-min", "0", "--drain-seconds", "1",
]  # fmt: skip


@dataclass
class Link:
    """The network of one trainer's host: its way to the scheduler, and everybody's way to it."""

    to_scheduler: Relay
    to_trainer: Relay

    def cut(self) -> None:
        """The host is alone."""
        self.to_scheduler.cut()
        self.to_trainer.cut()

    def heal(self) -> None:
        """What was held arrives."""
        self.to_scheduler.heal()
        self.to_trainer.heal()


@dataclass
class Installation:
    """A scheduler, a monitor and trainers, below one folder."""

    root: Path
    scheduler: ServiceProcess
    monitor: ServiceProcess
    trainers: dict[str, ServiceProcess] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    open: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """Of this installation; one for the whole test."""
        if self._client is None:
            self._client = self.open.enter_context(Client(self.scheduler.address))
        return self._client

    @property
    def outputs(self) -> Path:
        """The output root that all trainers mount."""
        return self.root / "outputs"

    def add_trainers(self, *names: str, **options: Any) -> None:
        """Starts trainers, at the same time; the options are those of `trainer`."""
        start_all([self.trainer(name, **options) for name in names])
        for name in names:
            if name in self.links:
                self.links[name].to_trainer.retarget(self.trainers[name].address)
            self.await_trainer(name, "READY")

    def trainer(
        self,
        name: str,
        *,
        shared_artifacts: bool = True,
        linked: bool = False,
        flags: Sequence[str] = (),
    ) -> ServiceProcess:
        """A trainer that is not started yet, with a workspace of its own.

        linked: it is reached, and reaches the scheduler, through relays in `links`.
        """
        folder = self.root / f"trainer-{name}"
        scheduler, advertised = self.scheduler.address, []
        if linked:
            link = Link(*(self.open.enter_context(relay_to(scheduler)) for _ in range(2)))
            self.links[name] = link
            scheduler, advertised = (
                link.to_scheduler.address,
                ["--advertise-address", link.to_trainer.address],
            )
        artifacts = (self.root if shared_artifacts else folder) / "artifacts"
        arguments = ["--name", name, "--scheduler", scheduler, *advertised]
        arguments += ["--workspace", str(folder / "workspace"), "--artifacts", str(artifacts)]
        arguments += ["--outputs", str(self.outputs), *TRAINER_FLAGS, *flags]
        made = ServiceProcess("tests.support.scripted_trainer", arguments, folder, ENVIRONMENT)
        self.trainers[name] = made
        return made

    def submit(self, *actions: Sequence[Any], **more: Any) -> Job:
        """A CPU job whose child does these actions; see scripted_child.py."""
        arguments: dict[str, Any] = {"output_dir": "out", "retry_backoff": 0.1, **more}
        return self.client.jobs.create(
            model="some/model",
            train_data=["some/data"],
            accelerator="cpu",
            system_prompt=json.dumps(actions),
            **arguments,
        )

    def workspace(self, trainer: str) -> Path:
        """A trainer's own folder."""
        return self.root / f"trainer-{trainer}" / "workspace"

    def run(self, trainer: str, job: Job, attempt: int = 1) -> Path:
        """The folder of a run."""
        return self.workspace(trainer) / "runs" / job.id / str(attempt)

    def file(self, trainer: str, job: Job, name: str, attempt: int = 1) -> dict[str, Any]:
        """A JSON file of a run's folder; empty if it is not there."""
        path = self.run(trainer, job, attempt) / name
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def await_file(self, trainer: str, job: Job, name: str, attempt: int = 1) -> dict[str, Any]:
        """The same, once it is there."""
        return eventually_sync(
            lambda: self.file(trainer, job, name, attempt),
            PATIENCE_SECONDS,
            f"{name} of {job.name}",
        )

    def await_child(self, trainer: str, job: Job, attempt: int = 1) -> int:
        """The pid of a run's child, once there is one."""

        def recorded() -> int:
            child = self.file(trainer, job, "process.json", attempt).get("child") or {}
            return int(child.get("pid", 0))

        return eventually_sync(recorded, PATIENCE_SECONDS, f"a child of {job.id} on {trainer}")

    def await_steps(self, trainer: str, job: Job, count: int, attempt: int = 1) -> int:
        """The number of steps in a run's spool, once there are so many."""
        spool = self.run(trainer, job, attempt) / "spool.jsonl"
        return eventually_sync(
            lambda: (found := _steps_in(spool)) >= count and found,
            PATIENCE_SECONDS,
            f"{count} steps of {job.name} on {trainer}",
        )

    def await_state(self, job: Job, *states: str, attempt: int = 0) -> str:
        """The job's state, once it is one of these (in that attempt)."""

        def found() -> str:
            job.refresh()
            fits = job.state in states and (attempt == 0 or job.attempt == attempt)
            return job.state if fits else ""

        what = f"{job.name} {states} (attempt {attempt or 'any'})"
        try:
            return eventually_sync(found, PATIENCE_SECONDS, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {job.proto}") from None

    def await_trainer(self, name: str, state: str) -> trainer_pb2.Trainer:
        """The trainer's record, once the scheduler says that it is so."""
        wanted = trainer_pb2.TrainerState.Value(f"TRAINER_STATE_{state}")

        def looked_up() -> trainer_pb2.Trainer | None:
            found = [one for one in self.client.trainers.list() if one.name == f"trainers/{name}"]
            return next((one for one in found if one.state == wanted), None)

        record = eventually_sync(looked_up, PATIENCE_SECONDS, f"trainer {name} {state}")
        assert record is not None
        return record

    def await_fed(self, job: Job, step: int) -> None:
        """Returns once the monitor has stored this step."""
        eventually_sync(
            lambda: any(one.step >= step for one in job.metrics("loss").points),
            PATIENCE_SECONDS,
            f"step {step} of {job.name} in the feed",
        )

    def await_log(self, service: ServiceProcess, text: str) -> None:
        """Returns once the service has said it."""
        eventually_sync(
            lambda: text in service.log_file.read_text(),
            PATIENCE_SECONDS,
            f"{service.name} says {text!r}",
        )

    def stop(self) -> None:
        """Ends everything at once, runs included; how services drain is not the matter here."""
        for service in (*self.trainers.values(), self.monitor, self.scheduler):
            if service.process is not None:
                service.kill()
        for name in self.trainers:
            end_runs_below(self.workspace(name))
        self.open.close()


ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY)}


def training(**plan: Any) -> Sequence[Any]:
    """An action: steps with checkpoints; see scripted_training.py."""
    return ["run_file", scripted_training.__file__, plan]


@contextmanager
def installation_at(
    root: Path, *, trainers: Sequence[str] = ("a",), scheduler_flags: Sequence[str] = ()
) -> Iterator[Installation]:
    """Scheduler, monitor and trainers, serving; all ended at the end."""
    scheduler = ServiceProcess(
        "scheduler_svc",
        ["--database-url", f"sqlite:///{root / 'scheduler.db'}",
         *SCHEDULER_FLAGS, *scheduler_flags],
        root / "scheduler",
    )  # fmt: skip
    scheduler.start()
    monitor = ServiceProcess(
        "monitor_svc",
        ["--database-url", f"sqlite:///{root / 'monitor.db'}",
         "--scheduler", scheduler.address, *MONITOR_FLAGS],
        root / "monitor",
    )  # fmt: skip
    made = Installation(root, scheduler, monitor)
    try:
        start_all([monitor, *(made.trainer(name) for name in trainers)])
        yield made
    finally:
        made.stop()


def start_all(services: Sequence[ServiceProcess]) -> None:
    """Starts them at the same time, and waits until each serves."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda service: service.start(), services))


def crashes_at(service: ServiceProcess, point: str) -> None:
    """Waits until the service has ended itself at this crash point, and nowhere else."""
    process = service.process
    assert process is not None
    try:
        code = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{service.name} did not reach {point}") from None
    log = service.log_file.read_text()
    assert code == -signal.SIGKILL, log[-3000:]
    assert log.rstrip().endswith(f"crash point reached: {point}"), log[-3000:]


def armed(point: str) -> dict[str, str]:
    """The environment in which a service ends itself at a crash point."""
    return {"TUNEWRIGHT_CRASH_POINT": point}


def kill_tree(installation: Installation, trainer: str, job: Job, attempt: int = 1) -> None:
    """SIGKILL to shim and child at once, as when their host dies."""
    recorded = installation.file(trainer, job, "process.json", attempt)
    for name in ("shim", "child"):
        os.kill(recorded[name]["pid"], signal.SIGKILL)
    for name in ("shim", "child"):
        eventually_sync(lambda: not is_running(recorded[name]["pid"]), 10, f"{name} is gone")  # noqa: B023 # called at once


def processes_of(workspace: Path) -> list[int]:
    """The living processes of all runs of a workspace, found by their marker."""
    identity = workspace / "workspace.json"
    if not identity.exists():
        return []
    marker = json.loads(identity.read_text())["workspace_uuid"]
    return [one.pid for one in psutil.process_iter() if _marked(one, marker)]


def _marked(process: psutil.Process, marker: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.environ().get("TUNEWRIGHT_RUN", "").startswith(marker)
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _steps_in(spool: Path) -> int:
    return spool.read_text().count('"train_metrics"') if spool.exists() else 0
