"""Whose word counts: the scheduler's database and generation that were last accepted.

Pure. An older generation of the same database is a scheduler that was
replaced; its answers are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Authority:
    """A scheduler's database, and how many schedulers have led on it so far."""

    database_uuid: str
    generation: int

    def yields_to(self, other: Authority) -> bool:
        """True if an answer from `other` may replace this one's word."""
        same = self.database_uuid == other.database_uuid
        return other.generation >= self.generation if same else True

    def same_database(self, other: Authority) -> bool:
        """True if both speak for one database."""
        return self.database_uuid == other.database_uuid
