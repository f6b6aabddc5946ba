"""A whole scheduler in this process: real server, real database, real client."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scheduler_svc.config import SchedulerConfig
from tests.integration.scheduler.harness import FakeTrainer, SchedulerHandle, running_scheduler


def sqlite_config(folder: Path, **more: object) -> SchedulerConfig:
    """A port and a file of its own. Polls are slow, so that tests see the wake-ups work."""
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "database_url": f"sqlite:///{folder / 'scheduler.db'}",
        "drain_seconds": 2.0,
        "heartbeat_interval_seconds": 0.5,
        "suspect_seconds": 30.0,
        "lost_seconds": 60.0,
        "feed_poll_seconds": 60.0,
        "feed_keepalive_seconds": 0.4,
        "health_tick_seconds": 0.1,
        "upkeep_tick_seconds": 0.1,
        "dispatch_tick_seconds": 60.0,
        "progress_flush_seconds": 0.1,
    }
    return SchedulerConfig.model_validate({**values, **more})


@pytest.fixture
def config(tmp_path: Path) -> SchedulerConfig:
    return sqlite_config(tmp_path)


@pytest.fixture
async def scheduler(config: SchedulerConfig) -> AsyncIterator[SchedulerHandle]:
    async with running_scheduler(config) as running:
        yield running


@pytest.fixture
async def trainer(scheduler: SchedulerHandle) -> AsyncIterator[FakeTrainer]:
    """Registered, with one CPU slot and two GPUs."""
    async with FakeTrainer.serving("gpu-1") as fake:
        await fake.register(scheduler)
        yield fake


@pytest.fixture
def postgres_config(tmp_path: Path, postgres_database: str) -> SchedulerConfig:
    return sqlite_config(tmp_path, database_url=postgres_database)
