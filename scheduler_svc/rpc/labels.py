"""Labels, display names and other free values of a job: what they may be.

Each check notes its violations, so that one answer names all bad fields.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunewright.wire import names

from scheduler_svc.converters.violations import Violations
from svckit.spec.text_rules import without_control_characters

LABEL_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
PRIORITY_MAX = 1000
REQUEST_ID_CHARACTERS_MAX = 64


@dataclass(frozen=True)
class RecordLimits:
    """How large the free values of a job may be."""

    labels_max: int = 64
    label_value_characters_max: int = 128
    display_name_characters_max: int = 128


def check_display_name(text: str, limits: RecordLimits, noted: Violations) -> None:
    """Notes one that is too long or not one printable line."""
    _check_line("job.display_name", text, limits.display_name_characters_max, noted)


def check_labels(labels: Mapping[str, str], limits: RecordLimits, noted: Violations) -> None:
    """Notes too many labels, and each bad key and value."""
    if len(labels) > limits.labels_max:
        noted.add("job.labels", f"must be at most {limits.labels_max}; got {len(labels)}")
        return
    for key, value in sorted(labels.items()):
        field = f"job.labels[{key[:80]}]"
        if not LABEL_KEY.fullmatch(key):
            noted.add(field, f"the key must match {LABEL_KEY.pattern}")
        _check_line(field, value, limits.label_value_characters_max, noted)


def check_priority(priority: int, noted: Violations) -> None:
    """Notes one that is out of range."""
    if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        noted.add("job.priority", f"must be -{PRIORITY_MAX} to {PRIORITY_MAX}; got {priority}")


def check_request_id(request_id: str, noted: Violations) -> None:
    """Notes one that is too long or not one printable line."""
    _check_line("request_id", request_id, REQUEST_ID_CHARACTERS_MAX, noted)


def check_id(field: str, wished: str, noted: Violations) -> None:
    """Notes a wished-for id that cannot be the last part of a name."""
    if wished and not names.ID_PATTERN.fullmatch(wished):
        noted.add(field, f"must match {names.ID_PATTERN.pattern}; got {wished[:80]!r}")


def check_mask(paths: Sequence[str], allowed: Sequence[str], noted: Violations) -> None:
    """Notes an empty mask, and each path that cannot be changed."""
    if not paths:
        noted.add("update_mask", f"is required; it may name {', '.join(allowed)}")
    for path in paths:
        if path not in allowed:
            noted.add("update_mask", f"{path[:80]!r} cannot be changed; {', '.join(allowed)} can")


def _check_line(field: str, text: str, characters_max: int, noted: Violations) -> None:
    if len(text) > characters_max:
        noted.add(field, f"must be at most {characters_max} characters long; it has {len(text)}")
        return
    with noted.noting(field):
        without_control_characters(text)
