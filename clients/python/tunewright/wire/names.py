"""Resource names: `jobs/{job}`, `trainers/{trainer}`.

Pure text; refuses with ValueError, which says what was expected.
"""

from __future__ import annotations

import re

# The last part of a name: what CreateJobRequest.job_id may be.
ID_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,62}")
# Host names make good trainer ids, so dots and a leading digit are allowed there.
TRAINER_ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def job_name(job_id: str) -> str:
    """`jobs/{job_id}`."""
    return f"jobs/{job_id}"


def job_id(name: str) -> str:
    """The id in `jobs/{id}`; ValueError if it is none."""
    return _last(name, "jobs", ID_PATTERN)


def trainer_name(trainer_id: str) -> str:
    """`trainers/{trainer_id}`."""
    return f"trainers/{trainer_id}"


def trainer_id(name: str) -> str:
    """The id in `trainers/{id}`; ValueError if it is none."""
    return _last(name, "trainers", TRAINER_ID_PATTERN)


def _last(name: str, collection: str, pattern: re.Pattern[str]) -> str:
    head, _, last = name.partition("/")
    if head != collection or not pattern.fullmatch(last):
        raise ValueError(f"expected '{collection}/<id>', got {name[:80]!r}")
    return last
