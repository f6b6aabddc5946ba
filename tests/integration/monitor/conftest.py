"""A made-up scheduler, and monitors that read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.monitor.fake_sources import FakeScheduler, serving_scheduler
from tests.integration.monitor.processes import Start, monitors


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    """Serves an empty feed and no trainers."""
    async with serving_scheduler(FakeScheduler()) as running:
        yield running


@pytest.fixture
async def start_monitor(tmp_path: Path, scheduler: FakeScheduler) -> AsyncIterator[Start]:
    """Starts monitors of that scheduler."""
    async with monitors(tmp_path, scheduler.address) as start:
        yield start
