"""When a silent trainer is SUSPECT, and when it is LOST.

Pure: `now` is a monotonic time in seconds, never the wall clock, so that a
clock that jumps moves no lease. Refuses to give up many hosts at once: such a
silence is more likely the scheduler's own network.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from scheduler_svc.domain.fleet import TrainerState

MASS_SILENCE_TRAINERS_MIN = 3


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Silence that makes a trainer SUSPECT, and LOST, in seconds."""

    suspect_after_seconds: float = 20.0
    lost_after_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Lease:
    """Since when a trainer has been silent.

    A scheduler that starts, takes the lead or was itself stopped for a while
    grants every trainer a new one that is not `heard`: nobody is given up
    before a whole LOST window has passed, and nobody gets work before it is
    heard.
    """

    since: float
    heard: bool


def silence_seconds(lease: Lease, now: float) -> float:
    """How long nothing was heard."""
    return max(0.0, now - lease.since)


def expired(lease: Lease, now: float, times: LeaseTimes) -> bool:
    """Whether the trainer is to be given up."""
    return silence_seconds(lease, now) >= times.lost_after_seconds


def state_of(lease: Lease, now: float, times: LeaseTimes) -> TrainerState:
    """READY or SUSPECT. LOST is a decision that is recorded, not a reading of the clock."""
    if not lease.heard or silence_seconds(lease, now) >= times.suspect_after_seconds:
        return TrainerState.SUSPECT
    return TrainerState.READY


def mass_silence(leases: Collection[Lease], now: float, times: LeaseTimes) -> bool:
    """More than half of the trainers, and at least three, are silent: all expiry stops.

    `leases` are those of trainers that were not given up before.
    """
    silent = sum(
        1 for lease in leases if silence_seconds(lease, now) >= times.suspect_after_seconds
    )
    return silent >= MASS_SILENCE_TRAINERS_MIN and silent * 2 > len(leases)
