"""Silence, and what it means."""

from __future__ import annotations

import pytest

from scheduler_svc.domain.fleet import TrainerState
from scheduler_svc.domain.leases import Lease, LeaseTimes, expired, mass_silence, state_of

TIMES = LeaseTimes(20, 120)


@pytest.mark.parametrize(
    ("silence", "state", "is_expired"),
    [
        (0, TrainerState.READY, False),
        (19.9, TrainerState.READY, False),
        (20, TrainerState.SUSPECT, False),
        (119.9, TrainerState.SUSPECT, False),
        (120, TrainerState.SUSPECT, True),
    ],
)
def test_silence_makes_a_trainer_suspect_and_then_lost(
    silence: float, state: TrainerState, is_expired: bool
) -> None:
    lease = Lease(100.0, heard=True)

    assert state_of(lease, 100.0 + silence, TIMES) is state
    assert expired(lease, 100.0 + silence, TIMES) is is_expired


def test_a_trainer_that_was_not_heard_yet_gets_no_work_and_a_whole_window() -> None:
    lease = Lease(100.0, heard=False)

    assert state_of(lease, 100.0, TIMES) is TrainerState.SUSPECT
    assert not expired(lease, 219.0, TIMES)


@pytest.mark.parametrize(
    ("silent", "heard", "is_mass"),
    [(2, 0, False), (3, 0, True), (3, 2, True), (3, 3, False), (4, 3, True), (500, 500, False)],
)
def test_silence_of_more_than_half_and_at_least_three_is_a_mass_silence(
    silent: int, heard: int, is_mass: bool
) -> None:
    leases = [Lease(0.0, heard=True)] * silent + [Lease(100.0, heard=True)] * heard

    assert mass_silence(leases, 100.0, TIMES) is is_mass
