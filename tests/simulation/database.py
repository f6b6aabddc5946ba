"""The scheduler's database: what was committed survives every crash, nothing else does.

Production's memory store with three things added: the process may end right
before or right after a commit, somebody else's transaction may come between a
read and the guarded write that was decided on it (as on PostgreSQL), and each
commit is told to the history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

from tunewright.v1 import feed_pb2

from scheduler_svc.application.ports import Guard
from scheduler_svc.domain.job import Attempt, Job, JobId
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.run import RunKey
from scheduler_svc.storage.memory_store import MemoryStore, MemoryWriting, _Records
from tests.simulation.history import Event, History
from tests.simulation.virtual_time import Process, World

Interloper = Callable[[JobId], None]


@dataclass
class Database:
    """The disk of the database."""

    world: World
    history: History
    records: _Records = field(default_factory=_Records)
    seen: dict[JobId, Event] = field(default_factory=dict)
    """The last that the history was told of each job."""

    def backup(self) -> _Records:
        """A copy as of now; records are frozen, so tables are enough."""
        return _Records(
            **{one.name: dict(getattr(self.records, one.name)) for one in fields(_Records)}
        )

    def restore(self, records: _Records) -> None:
        """Somebody puts another database in its place."""
        self.records = records
        self.seen = {}
        self.history.add(Event(self.world.now, "restored", value=len(records.jobs)))
        for job_id in sorted(records.jobs):
            self.tell(job_id, "restored")

    def tell(self, job_id: JobId, flags: str) -> None:
        """Notes how a job stands after a commit, if that is new."""
        job = self.records.jobs.get(job_id)
        if job is None:
            if self.seen.pop(job_id, None) is not None:
                self.history.add(Event(self.world.now, "removed", job_id))
            return
        current = self.records.attempts.get(RunKey(job_id, job.attempt))
        before = self.seen.get(job_id)
        marks = [flags] if flags else []
        if current is not None:
            marks += ["ended"] if current.end_time is not None else []
            marks += ["slot"] if current.slot_held else []
            marks += ["timed_out"] if current.timed_out else []
        event = Event(
            self.world.now,
            "committed",
            job_id,
            job.attempt,
            current.trainer_id if current else "",
            job.state.value,
            before.state if before else "",
            job.priority,
            " ".join(marks),
        )
        if before is None or event[3:6] + event[7:] != before[3:6] + before[7:]:
            if before is None:
                self._tell_new(job)
            self.seen[job_id] = event
            self.history.add(event)

    def _tell_new(self, job: Job) -> None:
        key = Requirement.of(job.spec).key
        note = f"{job.create_time.isoformat()} {key}"
        self.history.add(
            Event(self.world.now, "created", job.job_id, value=job.priority, note=note)
        )


class SimWriting(MemoryWriting):
    """A transaction that remembers which jobs it touched."""

    def __init__(self, records: _Records, interloper: Interloper | None) -> None:
        super().__init__(records)
        self.touched: dict[JobId, str] = {}
        self._interloper = interloper

    def _touch(self, job_id: JobId, flags: str = "") -> None:
        self.touched[job_id] = self.touched.get(job_id, "") or flags

    def insert_job(self, job: Job) -> None:
        self._touch(job.job_id)
        super().insert_job(job)

    def move_job(self, guard: Guard, job: Job) -> bool:
        if self._interloper is not None and job.job_id not in self.touched:
            self._interloper(job.job_id)
        self._touch(job.job_id)
        return super().move_job(guard, job)

    def edit_job(self, job: Job) -> None:
        self._touch(job.job_id)
        super().edit_job(job)

    def put_attempt(self, job_id: JobId, attempt: Attempt) -> None:
        self._touch(job_id)
        super().put_attempt(job_id, attempt)

    def remove_job(self, job_id: JobId) -> None:
        self._touch(job_id)
        super().remove_job(job_id)

    def append_entry(self, job_id: JobId, payload: bytes) -> None:
        if b"STOP_UNCONFIRMED" in payload:
            entry = feed_pb2.Entry.FromString(payload)
            if entry.event.type == "STOP_UNCONFIRMED":
                self._touch(job_id, "unconfirmed")
        super().append_entry(job_id, payload)


class SimStore(MemoryStore):
    """One process's connections to the database."""

    writing_class: type[SimWriting] = SimWriting

    def __init__(self, database: Database, process: Process) -> None:
        super().__init__()
        self._database = database
        self._records = database.records
        self._process = process
        self._is_nested = False
        self.interloper: Interloper | None = None
        """Called with a job right before its guarded move; may commit something else on it."""

    @contextmanager
    def write(self) -> Iterator[SimWriting]:
        """One transaction."""
        interloper = None if self._is_nested else self._interlope
        writing = self.writing_class(self._records, interloper)
        try:
            yield writing
            if not self._is_nested:
                self._process.hazard("before a commit")
            writing.give_positions()
        except BaseException:
            writing.undo()
            raise
        for job_id, flags in writing.touched.items():
            self._database.tell(job_id, flags)
        if not self._is_nested:
            self._process.hazard("after a commit")

    def _interlope(self, job_id: JobId) -> None:
        if self.interloper is None:
            return
        self._is_nested = True
        try:
            self.interloper(job_id)
        finally:
            self._is_nested = False
