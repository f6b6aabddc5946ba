"""What the monitor keeps, as values: stored entries, heads of jobs, sources and their cursors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monitor_svc.domain.entries import Entry

# The lease key of the scheduler's feed; a trainer's is its name, "trainers/{trainer}".
SCHEDULER_KEY = "scheduler"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with its place.

    `sequence` counts within the job; `position` is the place in the log over
    all jobs, in commit order. `gap` goes right before the entry, if there is one.
    """

    job: str
    sequence: int
    position: int
    kind: int
    size_bytes: int
    entry: Entry
    gap: Entry | None = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A stored entry and its job's labels; None while they are not known."""

    stored: StoredEntry
    labels: Labels | None


@dataclass(frozen=True, slots=True)
class Appended:
    """What one transaction appended: the log went from `previous` to `position`."""

    previous: int
    position: int
    entries: Sequence[LogEntry] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """Where a job's sequence stands. `terminal_sequence` is 0 until the job has ended."""

    first_sequence: int
    last_sequence: int
    terminal_sequence: int


@dataclass(frozen=True, slots=True)
class JobPage:
    """Entries of one job, in order; the caller has seen all up to `upto` once it has them."""

    head: Head
    entries: Sequence[StoredEntry]
    upto: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries of the log, in order; the caller has seen all up to `upto` once it has them."""

    entries: Sequence[LogEntry]
    upto: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A job whose entries up to `last_sequence` retention has removed."""

    job: str
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream of a source is stored."""

    source: str
    stream: str
    position: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A feed that the monitors read, and who reads it.

    `source` is the UUID that its cursors carry, "" before the first batch;
    `holder` is the process that holds the lease, "" if none does; `beat` grows
    while the holder lives.
    """

    key: str
    address: str
    source: str = ""
    holder: str = ""
    holder_name: str = ""
    epoch: int = 0
    beat: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """A stream's position that a held entry waits for."""

    source: str
    stream: str
    position: int


@dataclass(frozen=True, slots=True)
class Held:
    """An entry of the scheduler that stays back; `held_id` orders them, 0 before it is stored."""

    held_id: int
    job: str
    entry: Entry
    waits: tuple[Wait, ...] = ()


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: entries per job, and how long after a job's last one; 0 means all."""

    entries_per_job_max: int = 0
    idle_seconds_max: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch of one stream as it came, under the reader's lease.

    It covers the stream from `start` (where the reader stood before) to `end`.
    `labels` are those of jobs first heard of here.
    """

    key: str
    epoch: int
    source: str
    stream: str
    start: int
    end: int
    entries: Sequence[Entry] = ()
    is_last: bool = False
    labels: Mapping[str, Labels] = field(default_factory=dict)
