"""The three services of this machine, together: started in order, tended, stopped in order.

Owns the child processes. Says what happens through `say`, a line at a time.
"""

from __future__ import annotations

import fcntl
import importlib.util
import threading
import time
from collections.abc import Callable
from typing import IO

from tunewright.cli.exits import CommandError, ExitCode
from tunewright.cli.local.layout import SERVICES, LocalOptions, StateFolder, service_arguments
from tunewright.cli.local.service import LocalService, RestartPause
from tunewright.client import Client
from tunewright.errors import TunewrightError, Unavailable
from tunewright.jobs import Job
from tunewright.v1 import trainer_pb2

READY_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_ON_A_TRAINER = "state = STARTING OR state = RUNNING OR state = PUBLISHING"


class Interrupted(TunewrightError):
    """Stopping was asked for while something was waited for."""


class LocalStack:
    """Scheduler, monitor and trainer as children of this process.

    Args:
        stopping: set from a signal handler to end every wait here.
        say: prints one line.
    """

    def __init__(
        self,
        state: StateFolder,
        options: LocalOptions,
        stopping: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._state = state
        self._options = options
        self._stopping = stopping
        self._say = say
        self._services: dict[str, LocalService] = {}
        self._lock: IO[str] | None = None

    @property
    def address(self) -> str:
        """The scheduler's: all that a client needs."""
        return self._services["scheduler"].address

    def addresses(self) -> dict[str, str]:
        """Of each service."""
        return {name: service.address for name, service in self._services.items()}

    def start(self) -> None:
        """Starts the services and waits until work can be handed in.

        Raises CommandError when one does not come up, Interrupted when
        stopping is asked for meanwhile. Call `stop` in either case.
        """
        _require_server()
        self._take_state()
        for name in SERVICES:
            self._services[name] = service = self._service(name)
            service.start()
            if name == "scheduler":  # the others are told its address
                self._await_ready(service)
        for service in self._services.values():
            self._await_ready(service)
        self._await_fleet()

    def tend(self, stopping: threading.Event) -> None:
        """Restarts what ends by itself, until stopping is asked for."""
        pauses = {name: RestartPause() for name in self._services}
        due: dict[str, float] = {}
        while not stopping.wait(_LOOK_SECONDS * 4):
            now = time.monotonic()
            for name, service in self._services.items():
                if name in due and now >= due[name]:
                    del due[name]
                    service.start()
                    pauses[name].started(now)
                elif name not in due and not service.is_running:
                    wait = pauses[name].next_seconds(now)
                    due[name] = now + wait
                    self._say(self._ended_words(service, wait))

    def stop(self) -> None:
        """Stops the services, the last started first. Safe to call twice.

        A trainer finds the scheduler and the monitor still there for its last words.
        """
        while self._services:
            name, service = self._services.popitem()
            if not service.stop():
                self._say(f"{name} did not end in time and was killed")
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def jobs_on_trainers(self) -> list[Job]:
        """Jobs that go on when the services stop; empty if nobody can tell."""
        scheduler = self._services.get("scheduler")
        if scheduler is None or not scheduler.address:
            return []
        try:
            with Client(scheduler.address, timeout=3) as client:
                return list(client.jobs.list(filter=_ON_A_TRAINER))
        except TunewrightError:
            return []

    def _service(self, name: str) -> LocalService:
        scheduler = self._services.get("scheduler")
        known = scheduler.address if scheduler else ""
        return LocalService(
            name,
            service_arguments(name, self._state, self._options, known),
            self._options.listen(name),
            self._state.log(name),
            self._state.ready(name),
        )

    def _take_state(self) -> None:
        self._state.make()
        self._lock = self._state.lock.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            taken = f"{self._state.path} is in use by another `tunewright up` or `demo`"
            raise CommandError(taken) from None

    def _await_ready(self, service: LocalService) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not service.is_ready():
            if service.exit_code is not None:
                raise CommandError(
                    f"{service.name} did not start: {service.last_line() or 'no word'} "
                    f"(log: {service.log_file})",
                    ExitCode.USAGE if service.exit_code == ExitCode.USAGE else ExitCode.FAILED,
                )
            self._pause(deadline, f"{service.name} is not ready", service)

    def _await_fleet(self) -> None:
        """Waits until the trainer is registered and the monitor is known."""
        trainer = self._services["trainer"]
        deadline = time.monotonic() + READY_SECONDS
        with Client(self.address, timeout=5) as client:
            while not _complete(client, trainer.address):
                self._pause(deadline, "the trainer or the monitor is not registered", trainer)

    def _pause(self, deadline: float, problem: str, service: LocalService) -> None:
        if self._stopping.wait(_LOOK_SECONDS):
            raise Interrupted("stopped while starting")
        if time.monotonic() > deadline:
            told = f"{problem} after {READY_SECONDS:.0f} s (log: {service.log_file})"
            raise CommandError(told, ExitCode.FAILED)

    def _ended_words(self, service: LocalService, wait: float) -> str:
        code = service.exit_code
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"{service.name} ended ({how}); again in {wait:.0f} s (log: {service.log_file})"


def _complete(client: Client, trainer_address: str) -> bool:
    try:
        heard_of = bool(client.endpoints().monitors)
        ready = (
            one.state == trainer_pb2.TRAINER_STATE_READY and one.address == trainer_address
            for one in client.trainers.list()
        )
        return any(ready) and heard_of
    except Unavailable:
        return False


def _require_server() -> None:
    missing = [name for name in SERVICES if importlib.util.find_spec(f"{name}_svc") is None]
    if missing:
        raise CommandError(
            f"the {' and '.join(missing)} is not installed here: pip install "
            "'tunewright-server[train]' (or, in a checkout: make setup)",
        )
