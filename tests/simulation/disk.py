"""What is on disks: run folders, the artifact store, the output root.

Everything here is durable once it is written, but for the last lines of a
spool, which nobody syncs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tunewright.v1 import feed_pb2

from tests.simulation.history import Event, History
from tests.simulation.virtual_time import World
from trainer_svc.domain.classify import ExitRecord, ResultRecord
from trainer_svc.domain.runs import Ending
from trainer_svc.supervisor.output_root import OutputInvalid
from trainer_svc.supervisor.processes import Identity
from trainer_svc.supervisor.publication import Publication, StagedResultInvalid
from trainer_svc.supervisor.run_folder import StopRecord

LINE_BYTES = 100


@dataclass
class Line:
    """One line of a stream: where it ends, what it says, when it was written."""

    after: int
    entry: feed_pb2.Entry
    time: float


@dataclass
class RunFiles:
    """What is on the disk of one run folder."""

    spec: dict[str, Any] | None = None
    shim: Identity | None = None
    child: Identity | None = None
    start_time: datetime | None = None
    stop: StopRecord | None = None
    exit: ExitRecord | None = None
    exit_time: datetime | None = None
    result: ResultRecord | None = None
    digest: str = ""
    ending: Ending | None = None
    end_time: datetime | None = None
    published: dict[str, Any] | None = None
    marks: dict[str, Any] = field(default_factory=dict)
    spool: list[Line] = field(default_factory=list)
    service: list[Line] = field(default_factory=list)
    removed: bool = False

    def stream(self, name: str) -> list[Line]:
        """The lines of a stream; stdout has none here."""
        if self.removed:
            return []
        return {"spool": self.spool, "service": self.service}.get(name, [])

    def append(self, name: str, entry: feed_pb2.Entry, time: float) -> None:
        """Adds a line."""
        lines = self.spool if name == "spool" else self.service
        after = (lines[-1].after if lines else 0) + LINE_BYTES
        lines.append(Line(after, entry, time))


@dataclass
class ArtifactStore:
    """Durable checkpoints: the highest step of each job."""

    name: str
    steps: dict[str, int] = field(default_factory=dict)

    def save(self, job_id: str, step: int) -> None:
        """A checkpoint has its name, and is on the disk."""
        self.steps[job_id] = max(step, self.steps.get(job_id, 0))


@dataclass
class OutputRoot:
    """The folder that all hosts mount: what is staged, and what stands at its place."""

    history: History
    world: World
    staged: dict[tuple[str, int], str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)

    def move_into_place(self, host: str, publication: Publication) -> None:
        """As trainer_svc.supervisor.publication does: one step, never over anything."""
        key = (publication.key.job_id, publication.key.attempt)
        if self.results.get(publication.output_dir) == publication.digest:
            return
        if publication.output_dir in self.results:
            raise OutputInvalid(f"output_dir {publication.output_dir!r} is taken")
        if self.staged.get(key) != publication.digest:
            raise StagedResultInvalid("no result is staged")
        del self.staged[key]
        self.results[publication.output_dir] = publication.digest
        self.history.add(
            Event(
                self.world.now,
                "published",
                publication.key.job_id,
                publication.key.attempt,
                host,
                note=publication.output_dir,
            )
        )

    def is_whole(self, publication: Publication) -> bool:
        """What is staged, or in place, is what the manifest says."""
        key = (publication.key.job_id, publication.key.attempt)
        return publication.digest in (
            self.staged.get(key),
            self.results.get(publication.output_dir),
        )
