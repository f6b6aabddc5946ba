"""Fake services behind real servers, and clients of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tunewright import AsyncClient, Client
from tunewright.retry import Backoff

from tests.integration.sdk.fake_services import FakeMonitor, FakeScheduler, Served

QUICK = Backoff(first_seconds=0.01, seconds_max=0.1)


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor()


@pytest.fixture
def monitor_server(monitor: FakeMonitor) -> Iterator[Served]:
    served = monitor.serve()
    yield served
    served.stop()


@pytest.fixture
def scheduler(monitor_server: Served) -> FakeScheduler:
    return FakeScheduler(monitors=[monitor_server.address])


@pytest.fixture
def scheduler_server(scheduler: FakeScheduler) -> Iterator[Served]:
    served = scheduler.serve()
    yield served
    served.stop()


@pytest.fixture
def client(scheduler_server: Served) -> Iterator[Client]:
    with Client(scheduler_server.address, timeout=10, backoff=QUICK) as opened:
        yield opened


@pytest.fixture
async def async_client(scheduler_server: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(scheduler_server.address, timeout=10, backoff=QUICK) as opened:
        yield opened
