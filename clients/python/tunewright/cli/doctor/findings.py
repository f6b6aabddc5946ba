"""What a look at the installation has found: one line, or one JSON object, each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


_MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.ERROR: "✗"}


@dataclass(frozen=True)
class Finding:
    """One of them. `advice` says what to do, unless all is well."""

    level: Level
    subject: str
    told: str
    advice: str = ""

    def line(self) -> str:
        """For people."""
        text = f"{_MARKS[self.level]} {self.subject}: {self.told}"
        return " ".join(f"{text} → {self.advice}".split()) if self.advice else text

    def json_line(self) -> str:
        """For programs."""
        record = {
            "level": self.level.value,
            "subject": self.subject,
            "finding": self.told,
            "advice": self.advice,
        }
        return json.dumps(record, ensure_ascii=False)


def well(subject: str, told: str) -> Finding:
    """All is well with it."""
    return Finding(Level.OK, subject, told)


def odd(subject: str, told: str, advice: str) -> Finding:
    """It works, but somebody should know."""
    return Finding(Level.WARNING, subject, told, advice)


def broken(subject: str, told: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(Level.ERROR, subject, told, advice)
