"""Resource names: `jobs/{job}`, `trainers/{trainer}`, `recipes/{recipe}`.

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


def recipe_name(recipe_id: str, version: int = 0) -> str:
    """`recipes/{recipe_id}`, with `@{version}` for one version of it."""
    return f"recipes/{recipe_id}@{version}" if version else f"recipes/{recipe_id}"


def recipe_ref(name: str) -> tuple[str, int]:
    """(id, version) of `recipes/{id}` or `recipes/{id}@{version}`; 0 means the latest."""
    plain, at, version = name.partition("@")
    if at and not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise ValueError(f"expected 'recipes/<id>@<version>', got {name[:80]!r}")
    return _last(plain, "recipes", ID_PATTERN), int(version or 0)


def _last(name: str, collection: str, pattern: re.Pattern[str]) -> str:
    head, _, last = name.partition("/")
    if head != collection or not pattern.fullmatch(last):
        raise ValueError(f"expected '{collection}/<id>', got {name[:80]!r}")
    return last
