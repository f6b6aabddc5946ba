"""Row 20: the monitor is killed between receiving and storing, or right after storing."""

from __future__ import annotations

import pytest

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, steps
from tests.faults.subscriber import Subscriber


@pytest.mark.parametrize("point", ["monitor.received", "monitor.stored"])
def test_20_nothing_is_lost_and_nothing_comes_twice(installation: Installation, point: str) -> None:
    go = installation.root / "go"
    job = installation.submit(["entries_until", str(go)], ["entries", 3], ["complete"])
    subscriber = Subscriber(installation.scheduler.address, job.name)
    installation.await_steps("a", job, 5)

    for _ in range(2):
        installation.monitor.kill()
        installation.monitor.spawn(**armed(point))
        crashes_at(installation.monitor, point)
    installation.monitor.start()
    go.touch()

    entries = check_nothing_lost(installation, job)
    taken = steps(entries)
    assert taken == list(range(1, len(taken) + 1))
    assert subscriber.ended() == entries
