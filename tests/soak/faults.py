"""What breaks during a soak, drawn at random: processes, networks, disks.

Owns which faults there are, and that each is over after a while: a service that
was killed is started again, a network heals, a disk is emptied.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from tests.faults.harness import Installation, processes_of
from tests.support.stack import ServiceProcess

DISK_BYTES = 256 << 20
PAUSE_SECONDS = (1.0, 5.0)
"""How long there is peace between two faults."""
AWAY_SECONDS = (0.2, 4.0)
"""How long something stays broken: below and above the time after which a host is LOST."""


class Faults(threading.Thread):
    """One fault after another, until it is stopped; then everything is whole again."""

    def __init__(
        self, installation: Installation, disks: Sequence[Path], rng: random.Random
    ) -> None:
        super().__init__(daemon=True, name="faults")
        self._installation = installation
        self._disks = disks
        self._rng = rng
        self._stopping = threading.Event()
        self.done: Counter[str] = Counter()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stopping.wait(self._rng.uniform(*PAUSE_SECONDS)):
                name, fault = self._rng.choice(self._all())
                fault()
                self.done[name] += 1
        except BaseException as error:
            self.error = error
            raise

    def stop(self) -> None:
        """Waits for the fault under way to be over."""
        self._stopping.set()
        self.join(120)

    def _all(self) -> list[tuple[str, Callable[[], None]]]:
        services = [
            self._installation.scheduler,
            self._installation.monitor,
            *self._installation.trainers.values(),
        ]
        faults: list[tuple[str, Callable[[], None]]] = []
        for service in services:
            kind = service.name.partition("-")[0]
            faults += [
                (f"{kind} killed", partial(self._kill, service)),
                (f"{kind} restarted", partial(self._restart, service)),
                (f"{kind} frozen", partial(self._freeze_service, service)),
            ]
        for name in self._installation.trainers:
            faults += [
                ("host killed", partial(self._kill_host, name)),
                ("run's process killed", partial(self._kill_one_of_runs, name)),
                ("run's process frozen", partial(self._freeze_one_of_runs, name)),
            ]
        for link in self._installation.links.values():
            faults.append(("network cut", partial(self._for_a_while, link.cut, link.heal)))
        for disk in self._disks:
            faults.append(("disk full", partial(self._fill, disk)))
        return faults

    def _wait(self) -> None:
        self._stopping.wait(self._rng.uniform(*AWAY_SECONDS))

    def _for_a_while(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        try:
            self._wait()
        finally:
            end()

    def _kill(self, service: ServiceProcess) -> None:
        service.kill()
        self._wait()
        service.start()

    def _restart(self, service: ServiceProcess) -> None:
        service.terminate()
        self._wait()
        service.start()

    def _kill_host(self, name: str) -> None:
        """The service and all its runs at once, as a power cut would."""
        service = self._installation.trainers[name]
        service.kill()
        for pid in self._runs_of(name):
            _signal(pid, signal.SIGKILL)
        self._wait()
        service.start()

    def _kill_one_of_runs(self, name: str) -> None:
        pids = self._runs_of(name)
        if pids:
            _signal(self._rng.choice(pids), signal.SIGKILL)

    def _freeze_one_of_runs(self, name: str) -> None:
        pids = self._runs_of(name)
        if pids:
            self._freeze(self._rng.choice(pids))

    def _freeze_service(self, service: ServiceProcess) -> None:
        self._freeze(service.pid)

    def _runs_of(self, name: str) -> list[int]:
        return processes_of(self._installation.workspace(name))

    def _freeze(self, pid: int) -> None:
        stop, go_on = (partial(_signal, pid, number) for number in (signal.SIGSTOP, signal.SIGCONT))
        self._for_a_while(stop, go_on)

    def _fill(self, disk: Path) -> None:
        ballast = disk / "ballast"
        try:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
            self._wait()
        finally:
            ballast.unlink(missing_ok=True)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        os.kill(pid, number)


@contextmanager
def small_disks(folders: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Each folder as a disk of its own that can be filled; none of them where this is not
    allowed, which takes root."""
    mounted: list[Path] = []
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                mounted.append(folder)
        yield mounted
    finally:
        for folder in mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
