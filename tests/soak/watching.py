"""What users see during a soak: streams that must have no gap, calls that must be answered.

Owns the subscribers, the outage probe and the look at memory. Everything goes
through the SDK or the kernel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
from tunewright import Client
from tunewright.errors import TunewrightError
from tunewright.subscription import TERMINAL_STATES
from tunewright.v1.feed_pb2 import Entry

from tests.faults.subscriber import Subscriber
from tests.support.stack import ServiceProcess

PROBE_SECONDS = 0.1
WATCHED_MAX = 40


class Watchers:
    """A subscriber on each of the first jobs, from its first entry to its last."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.by_job: dict[str, Subscriber] = {}

    def follow(self, job: str) -> None:
        """Watches this job as well, if there are not too many."""
        if job not in self.by_job and len(self.by_job) < WATCHED_MAX:
            self.by_job[job] = Subscriber(self._address, job)

    def broken(self, ended: Mapping[str, list[Entry]]) -> list[str]:
        """What subscribers of these ended jobs saw that differs from what is stored."""
        wrong = []
        for job, entries in ended.items():
            watcher = self.by_job.get(job)
            if watcher is None:
                continue
            watcher.join(30)
            stored = [entry.sequence for entry in _up_to_the_end(entries)]
            if watcher.is_alive():
                wrong.append(f"{job}: the stream did not end with the job")
            elif watcher.sequences() != stored:
                wrong.append(f"{job}: saw {watcher.sequences()[-3:]} of {stored[-3:]}")
        return wrong


def _up_to_the_end(entries: list[Entry]) -> list[Entry]:
    """Without what a lost host's old attempt said after the job had ended: nobody waits for it."""
    for at, entry in enumerate(entries):
        if entry.state_change.to in TERMINAL_STATES:
            return entries[: at + 1]
    return entries


class Probe(threading.Thread):
    """Asks for the list of jobs again and again: how long nobody answers at a stretch."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True, name="probe")
        self._address = address
        self._stopping = threading.Event()
        self.longest_outage_seconds = 0.0
        self.answers = 0

    def run(self) -> None:
        with Client(self._address, timeout=1.0) as client:
            answered = time.monotonic()
            while not self._stopping.wait(PROBE_SECONDS):
                try:
                    next(client.jobs.list(page_size=1), None)
                except TunewrightError:
                    continue
                now = time.monotonic()
                self.longest_outage_seconds = max(self.longest_outage_seconds, now - answered)
                answered = now
                self.answers += 1

    def stop(self) -> None:
        """The last answer counts."""
        self._stopping.set()
        self.join(10)


@dataclass
class Memory:
    """Resident memory of the services: the first and the latest look at each life, in bytes."""

    first: dict[int, tuple[str, int]] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    def look(self, services: list[ServiceProcess]) -> None:
        """Notes how much each takes now."""
        for service in services:
            if service.process is None:
                continue
            try:
                taken = psutil.Process(service.pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            self.first.setdefault(service.pid, (service.name, taken))
            self.last[service.pid] = taken

    def growth_bytes(self) -> dict[str, int]:
        """By service, the greatest growth within one of its lives."""
        grown: dict[str, int] = {}
        for pid, (name, first) in self.first.items():
            grown[name] = max(grown.get(name, 0), self.last[pid] - first)
        return grown
