"""What happened in a simulated schedule, in order: the only thing that the checker reads.

Owns the record and its hash. Holds nothing that differs between two runs of one
seed: no wall clock of this machine, no object ids, no order of a set.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened; which fields say something depends on `kind`."""

    time: float
    """Virtual seconds."""
    kind: str
    job: str = ""
    """The job's id."""
    attempt: int = 0
    place: str = ""
    """The host, client or subscriber that it happened at."""
    state: str = ""
    source: str = ""
    """The state before."""
    value: int = 0
    note: str = ""

    def __str__(self) -> str:
        named = {
            "job": self.job,
            "attempt": self.attempt,
            "at": self.place,
            "from": self.source.removeprefix("JOB_STATE_"),
            "state": self.state.removeprefix("JOB_STATE_"),
            "value": self.value,
            "note": self.note,
        }
        said = " ".join(f"{name}={value}" for name, value in named.items() if value)
        return f"{self.time:10.3f}  {self.kind:<16} {said}"


Finding = tuple[int, str]
"""The place of an event in the history, and what is wrong with it."""


@dataclass
class History:
    """All events of one schedule, and counts of the faults that were injected."""

    events: list[Event] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Appends."""
        self.events.append(event)

    def fault(self, kind: str) -> None:
        """Counts one fault."""
        self.faults[kind] = self.faults.get(kind, 0) + 1

    def digest(self) -> str:
        """The same for the same schedule, whatever machine it ran on."""
        summed = hashlib.sha256()
        for event in self.events:
            summed.update(repr(tuple(event)).encode())
        summed.update(repr(sorted(self.faults.items())).encode())
        return summed.hexdigest()
