"""A scheduler that a test steers, and a trainer service as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.trainer.fake_scheduler import FakeScheduler
from tests.integration.trainer.service import TrainerService, end_leftovers


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    """Served on loopback."""
    fake = FakeScheduler()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def idle_service(tmp_path: Path, scheduler: FakeScheduler) -> AsyncIterator[TrainerService]:
    """Not started yet; ended, with all that it left, after the test."""
    made = TrainerService(tmp_path, scheduler.address)
    yield made
    await made.kill()
    end_leftovers(made.workspace)


@pytest.fixture
async def service(idle_service: TrainerService) -> TrainerService:
    """Started, and ready to be registered."""
    await idle_service.start()
    return idle_service
