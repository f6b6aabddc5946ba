"""What a subscriber wants, how far it has it, and the token to come back with.

Two kinds: jobs by name, whose place is a sequence in each, and jobs by label,
whose place is one position in the log, however many jobs there are. Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from monitor_svc.domain import entries as kinds
from monitor_svc.domain.coalescing import Item
from monitor_svc.domain.records import Labels, LogEntry


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """What a token says: sequences by job, or a position; the other one is None."""

    sequences: Mapping[str, int] | None = None
    position: int | None = None

    def encode(self) -> str:
        """As an opaque token."""
        content = (
            {"j": dict(self.sequences or {})} if self.position is None else {"p": self.position}
        )
        text = json.dumps(content, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> ResumePoint:
        """From a token; ValueError if it is none of ours."""
        try:
            content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except (binascii.Error, ValueError):
            raise ValueError("not a resume token") from None
        match content:
            case {"p": int(position)} if position >= 0:
                return cls(position=position)
            case {"j": dict(sequences)} if _are_sequences(sequences.values()):
                return cls(sequences=sequences)
        raise ValueError("not a resume token")


def matches(selector: Labels, labels: Labels | None) -> bool:
    """True if labels are known and hold all that the selector asks for."""
    return labels is not None and selector.items() <= labels.items()


class Selection(Protocol):
    """What a subscriber wants and how far it has it. `taken` runs ahead of `sent`."""

    def wants(self, entry: LogEntry) -> bool:
        """True for an entry of its own that it has not taken."""

    def is_behind(self, entry: LogEntry) -> bool:
        """True if there is something between what was taken and this entry."""

    def take(self, entry: LogEntry) -> None:
        """The entry is on its way."""

    def sent(self, item: Item) -> None:
        """The item has gone out."""

    def settle(self) -> None:
        """Everything that was taken has gone out."""

    def complete(self) -> bool:
        """Every job in it has ended, and its last entry was taken."""

    @property
    def last_sequence(self) -> int:
        """The last sequence sent; the greatest where there are several jobs."""

    @property
    def resume_token(self) -> str:
        """Where to go on after what was sent."""


@dataclass
class JobSelection:
    """Jobs by name; `taken` has their sequences, 0 for those not yet heard of."""

    taken: dict[str, int]
    behind: set[str] = field(default_factory=set)
    terminals: dict[str, int] = field(default_factory=dict)
    _sent: dict[str, int] = field(init=False)
    _unsettled: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._sent = dict(self.taken)

    def wants(self, entry: LogEntry) -> bool:
        taken = self.taken.get(entry.stored.job)
        return taken is not None and entry.stored.sequence > taken

    def is_behind(self, entry: LogEntry) -> bool:
        return entry.stored.sequence > self.taken[entry.stored.job] + 1

    def take(self, entry: LogEntry) -> None:
        stored = entry.stored
        self.advance(stored.job, stored.sequence)
        if kinds.is_terminal(stored.entry):
            self.terminals[stored.job] = stored.sequence

    def advance(self, job: str, sequence: int) -> None:
        """Everything of `job` up to `sequence` is on its way, or not wanted."""
        self.taken[job] = sequence
        self._unsettled.add(job)

    def sent(self, item: Item) -> None:
        self._sent[item.job] = max(self._sent.get(item.job, 0), item.sequence)

    def settle(self) -> None:
        for job in self._unsettled:
            self._sent[job] = self.taken[job]
        self._unsettled.clear()

    def complete(self) -> bool:
        return len(self.terminals) == len(self.taken) and all(
            self.taken[job] >= sequence for job, sequence in self.terminals.items()
        )

    @property
    def last_sequence(self) -> int:
        return max(self._sent.values(), default=0)

    @property
    def resume_token(self) -> str:
        return ResumePoint(sequences=self._sent).encode()


@dataclass
class LabelSelection:
    """Jobs by label; `taken` is a position in the log."""

    selector: Labels
    taken: int
    _sent: int = field(init=False)
    _last_sequence: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._sent = self.taken

    def wants(self, entry: LogEntry) -> bool:
        return entry.stored.position > self.taken and matches(self.selector, entry.labels)

    def is_behind(self, entry: LogEntry) -> bool:
        return False  # the log is published in its order

    def take(self, entry: LogEntry) -> None:
        self.advance(entry.stored.position)

    def advance(self, position: int) -> None:
        """Everything up to `position` is on its way, or not wanted."""
        self.taken = max(self.taken, position)

    def sent(self, item: Item) -> None:
        self._sent = max(self._sent, item.position)
        self._last_sequence = item.sequence

    def settle(self) -> None:
        self._sent = self.taken

    def complete(self) -> bool:
        return False

    @property
    def last_sequence(self) -> int:
        return self._last_sequence

    @property
    def resume_token(self) -> str:
        return ResumePoint(position=self._sent).encode()


def _are_sequences(values: Iterable[object]) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)
