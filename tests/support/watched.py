"""A job and its whole feed, followed on a connection of its own; and what lives of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tunewright import Client
from tunewright.jobs import Job
from tunewright.v1 import job_pb2
from tunewright.v1.feed_pb2 import Entry

from tests.support.eventually import eventually_sync
from tests.support.stack import Stack


@dataclass
class Watched:
    """A job, and all that its feed has said so far."""

    job: Job
    address: str
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with Client(self.address) as client, client.jobs.get(self.job.name).watch() as watch:
            for entry in watch:
                self.entries.append(entry)

    def until_state(self, state: str) -> None:
        """Returns once the scheduler says so; a job that has ended otherwise fails the test."""

        def reached() -> bool:
            self.job.refresh()
            assert self.job.state == state or not self.job.is_terminal, self.job.failure
            return self.job.state == state

        eventually_sync(reached, 120, state)

    def until_end(self) -> Job:
        """The job as it ended; its whole feed has been read."""
        self.job.wait(timeout=180)
        self._thread.join(60)
        assert not self._thread.is_alive(), "the feed does not end"
        return self.job

    def steps(self) -> list[int]:
        """The logged steps, in the order in which they came."""
        return [
            entry.train_metrics.step
            for entry in list(self.entries)
            if entry.WhichOneof("payload") == "train_metrics"
        ]


def run_of(stack: Stack, job: Job, attempt: int) -> Path:
    return stack.root / "trainer-a" / "workspace" / "runs" / job.id / str(attempt)


def processes_of(job: Job) -> list[int]:
    """What lives of a job's attempts, by the mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get("TUNEWRIGHT_RUN", "")
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if f"/{job.id}/" in mark:
            found.append(process.pid)
    return found


def states(entries: list[Entry]) -> list[str]:
    moves = [one.state_change.to for one in entries if one.WhichOneof("payload") == "state_change"]
    return [job_pb2.JobState.Name(state).removeprefix("JOB_STATE_") for state in moves]
