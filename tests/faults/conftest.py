"""Installations for fault tests; see harness.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import QUICK_LOSS, Installation, installation_at
from tests.support.assets import Assets, make_assets


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Assets:
    """A tiny model and dialogues, for the few tests that train for real."""
    return make_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """Scheduler, monitor and trainer "a"; nobody is lost within a test's time."""
    with installation_at(tmp_path) as made:
        yield made


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Installation]:
    """Scheduler and monitor; the test adds its trainers."""
    with installation_at(tmp_path, trainers=()) as made:
        yield made


@pytest.fixture
def losing(tmp_path: Path) -> Iterator[Installation]:
    """The same, where a trainer is LOST after two seconds of silence."""
    with installation_at(tmp_path, trainers=(), scheduler_flags=QUICK_LOSS) as made:
        yield made
