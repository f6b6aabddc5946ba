"""Scheduler and monitor stay small: no torch, under 150 MB with 10,000 jobs in the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tunewright import Client

from tests.support.stack import ServiceProcess, Stack, running_stack
from tests.support.stored_jobs import store_jobs

pytestmark = pytest.mark.timeout(300)

JOBS = 10_000
RSS_BYTES_MAX = 150 * 1000 * 1000


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """With many jobs in the database, and without a trainer: all of them wait."""
    store_jobs(tmp_path / "scheduler.db", JOBS)
    with running_stack(tmp_path, trainers=()) as running:
        yield running


def rss_bytes(service: ServiceProcess) -> int:
    return int(psutil.Process(service.pid).memory_info().rss)


def mapped(service: ServiceProcess) -> str:
    return Path(f"/proc/{service.pid}/maps").read_text()


def test_ten_thousand_jobs_fit(stack: Stack) -> None:
    with Client(stack.address) as client:
        names = [job.name for job in client.jobs.list(page_size=1000, order_by="create_time")]
        with client.jobs.get(names[-1]).watch(until_terminal=False) as watch:
            newest = next(iter(watch))

    assert len(set(names)) == JOBS
    assert newest.sequence == 1, "the monitor has read the feed up to the newest job"
    for service in (stack.scheduler, stack.monitor):
        assert rss_bytes(service) < RSS_BYTES_MAX, service.name
        assert "libtorch" not in mapped(service), service.name
