"""Services are killed while a job trains: it succeeds all the same, and no entry is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tunewright import Client
from tunewright.v1 import job_pb2
from tunewright.v1.feed_pb2 import Entry

from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

# Long enough that services come and go while it trains.
LONG = {
    "max_steps": 400,
    "logging_steps": 5,
    "save_steps": 100,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
}


@pytest.fixture
def stack(tmp_path: Path, assets: Assets) -> Iterator[Stack]:
    """One of the test's own: its services are killed."""
    with running_stack(tmp_path, roots=[assets.folder]) as running:
        yield running


class Subscriber(threading.Thread):
    """Watches a job to its end, on a connection of its own."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(daemon=True)
        self._address, self._name = address, name
        self.entries: list[Entry] = []
        self.start()

    def run(self) -> None:
        with Client(self._address) as client, client.jobs.get(self._name).watch() as watch:
            for entry in watch:
                self.entries.append(entry)

    def last_step(self) -> int:
        steps = [entry.train_metrics.step for entry in list(self.entries)]
        return max(steps, default=0)


def create(client: Client, assets: Assets, output_dir: str) -> str:
    return client.jobs.create(
        model=assets.model,
        train_data=[assets.train],
        output_dir=output_dir,
        accelerator="cpu",
        hyperparameters=LONG,
    ).name


def sequences(entries: list[Entry]) -> list[int]:
    return [entry.sequence for entry in entries]


def test_scheduler_and_monitor_killed_one_after_the_other(stack: Stack, assets: Assets) -> None:
    with Client(stack.address) as client:
        name = create(client, assets, "killed")
        subscriber = Subscriber(stack.address, name)

        eventually_sync(lambda: subscriber.last_step() >= 20, 90, "the job trains")
        stack.scheduler.kill()
        seen = subscriber.last_step()
        eventually_sync(lambda: subscriber.last_step() > seen, 60, "progress without a scheduler")
        stack.scheduler.start()
        stack.monitor.kill()
        stack.monitor.start()
        final = client.jobs.get(name).wait(timeout=120)
        subscriber.join(60)

    assert final.state == "SUCCEEDED"
    assert final.attempt == 1
    assert sequences(subscriber.entries) == list(range(1, len(subscriber.entries) + 1))
    steps = [
        entry.train_metrics.step
        for entry in subscriber.entries
        if entry.WhichOneof("payload") == "train_metrics"
    ]
    assert steps == list(range(5, 401, 5))
    assert subscriber.entries[-1].state_change.to == job_pb2.JOB_STATE_SUCCEEDED


def test_three_subscribers_see_the_same(stack: Stack, assets: Assets) -> None:
    with Client(stack.address) as client:
        name = create(client, assets, "subscribed")
        steady = Subscriber(stack.address, name)
        eventually_sync(lambda: steady.last_step() >= 20, 90, "the job trains")

        returned: list[Entry] = []
        with client.jobs.get(name).watch() as first_visit:
            for entry in first_visit:
                returned.append(entry)
                if entry.WhichOneof("payload") == "train_metrics":
                    break  # as one that was killed: the stream is dropped in the middle
        with client.jobs.get(name).watch(after_sequence=returned[-1].sequence) as second_visit:
            returned += second_visit
        steady.join(120)
        with client.jobs.get(name).watch() as afterwards:
            late = list(afterwards)

    assert sequences(late) == list(range(1, len(late) + 1))
    assert returned == late
    assert steady.entries == late
