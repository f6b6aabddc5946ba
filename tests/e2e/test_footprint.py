"""Scheduler and monitor stay small: no torch, under 150 MB with 10,000 jobs in the database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tunewright import Client

from tests.support.eventually import eventually_sync
from tests.support.stack import ServiceProcess, Stack, running_stack

pytestmark = pytest.mark.timeout(300)

JOBS = 10_000
RSS_BYTES_MAX = 150 * 1000 * 1000


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Without a trainer: all jobs wait."""
    with running_stack(tmp_path, trainers=()) as running:
        yield running


def rss_bytes(service: ServiceProcess) -> int:
    return int(psutil.Process(service.pid).memory_info().rss)


def mapped(service: ServiceProcess) -> str:
    return Path(f"/proc/{service.pid}/maps").read_text()


def test_ten_thousand_jobs_fit(stack: Stack) -> None:
    def create(number: int) -> None:
        client.jobs.create(
            model="org/model",
            train_data=["/data/rows.jsonl"],
            output_dir=f"many/{number}",
            accelerator="cpu",
        )

    with Client(stack.address) as client:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(create, range(JOBS)))
        listed = sum(1 for _ in client.jobs.list(page_size=1000))
        last = client.jobs.get(next(iter(client.jobs.list(page_size=1))).name)
        eventually_sync(
            lambda: _entries(client, last.name) > 0, 60, "the monitor has read the feed"
        )

    assert listed == JOBS
    for service in (stack.scheduler, stack.monitor):
        assert rss_bytes(service) < RSS_BYTES_MAX, service.name
        assert "libtorch" not in mapped(service), service.name


def _entries(client: Client, name: str) -> int:
    with client.jobs.get(name).watch(until_terminal=False) as watch:
        return next(iter(watch)).sequence
