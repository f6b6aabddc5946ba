"""Row 24: the same feed entry arrives twice, or late, after entries that follow it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tunewright.v1 import feed_pb2, job_pb2

from tests.integration.monitor.fake_sources import (
    FakeFeed,
    FakeScheduler,
    serving,
    serving_scheduler,
)
from tests.integration.monitor.processes import (
    connected,
    eventually_stored,
    monitors,
    read_until_end,
)
from tests.unit.monitor.made_entries import created, metrics, sequences, state, succeeded

JOB = "jobs/a"
SPOOL = "runs/a/1/spool"
TRAINER = "trainers/t"


class Stammering(FakeFeed):
    """Sends each batch twice, and in the end everything from the first on once more."""

    def __init__(self, uuid: str, step: int = 1) -> None:
        super().__init__(uuid, step, batch_max=3)
        self._sent: list[feed_pb2.FeedBatch] = []
        self.repeated = 0

    def _batches(self, positions: dict[str, int], ended: set[str]) -> list[feed_pb2.FeedBatch]:
        fresh = super()._batches(positions, ended)
        said: list[feed_pb2.FeedBatch] = []
        for batch in fresh:
            said += [batch, batch]
        late = list(self._sent) if fresh else []
        self._sent += fresh
        self.repeated += len(fresh) + len(late)
        return [*said, *late]


@pytest.fixture
async def scheduler() -> AsyncIterator[FakeScheduler]:
    """One whose feed stammers too."""
    fake = FakeScheduler()
    fake.feed = Stammering("db-1")
    fake.labels[JOB] = {}
    async with serving_scheduler(fake) as served:
        yield served


async def test_24_each_is_stored_once_and_in_order(
    scheduler: FakeScheduler, tmp_path: Path
) -> None:
    trainer = Stammering("w-1", step=10)
    async with serving(trainer) as address, monitors(tmp_path, scheduler.address) as start_monitor:
        scheduler.add_trainer(TRAINER, address)
        monitor = await start_monitor()
        async with connected(monitor.address) as stub:
            scheduler.say(created(JOB))
            scheduler.say(state(JOB, job_pb2.JOB_STATE_RUNNING, trainer=TRAINER))
            for begin in range(1, 31, 10):
                trainer.say(SPOOL, *(metrics(JOB, step) for step in range(begin, begin + 10)))
                await eventually_stored(stub, JOB, 2 + begin + 9)
            trainer.end(SPOOL)
            scheduler.say(succeeded(JOB, ("w-1", SPOOL, 300)))
            entries = await read_until_end(stub, jobs=[JOB], until_terminal=True)

    assert trainer.repeated > 12
    assert sequences(entries) == list(range(1, 34))
    taken = [one.train_metrics.step for one in entries if one.HasField("train_metrics")]
    assert taken == list(range(1, 31))
    moves = [one.state_change.to for one in entries if one.HasField("state_change")]
    assert moves == [
        job_pb2.JOB_STATE_QUEUED,
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_SUCCEEDED,
    ]
