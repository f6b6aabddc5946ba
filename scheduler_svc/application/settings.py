"""The scheduler's numbers. Read from the environment by config.py only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """All times in seconds."""

    heartbeat_seconds: float = 5.0
    suspect_after_seconds: float = 20.0
    lost_after_seconds: float = 120.0
    reservation_after_seconds: float = 600.0
    """A job that fits an empty trainer and has waited so long gets one kept free for it."""
    backoff_seconds_max: float = 3_600.0
    """Doubling ends here."""
    queue_jobs_max: int = 100_000
    dispatch_moves_max: int = 1_000
    """Assignments of one round; the next round does the rest."""
    pause_grace_seconds: float | None = None
    """None: the trainer's own."""
    cancel_grace_seconds: float | None = None
    flush_after_seconds: float = 5.0
    """Progress and host samples are in memory so long before they are stored."""
    collect_deleted_after_seconds: float = 0.0
