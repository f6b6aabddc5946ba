"""Row 19: the monitor is killed with subscribers attached."""

from __future__ import annotations

from tests.faults.harness import PATIENCE_SECONDS, Installation
from tests.faults.nothing_lost import check_nothing_lost, steps
from tests.faults.subscriber import Subscriber
from tests.support.eventually import eventually_sync


def test_19_subscribers_resume_by_sequence(installation: Installation) -> None:
    go = installation.root / "go"
    job = installation.submit(["entries_until", str(go)], ["entries", 3], ["complete"])
    address = installation.scheduler.address
    first, second = Subscriber(address, job.name), Subscriber(address, job.name)
    for one in (first, second):
        eventually_sync(lambda: len(one.entries) > 10, PATIENCE_SECONDS, "entries")  # noqa: B023
    late = Subscriber(address, job.name, after_sequence=5)
    eventually_sync(lambda: late.entries, PATIENCE_SECONDS, "entries after the fifth")

    for _ in range(2):
        installation.monitor.kill()
        written = installation.await_steps("a", job, 1)
        installation.await_steps("a", job, written + 10)
        installation.monitor.start()
        seen = len(first.entries)
        eventually_sync(lambda: len(first.entries) > seen + 10, PATIENCE_SECONDS, "goes on")  # noqa: B023
    go.touch()

    entries = check_nothing_lost(installation, job)
    assert first.ended() == second.ended() == entries
    assert late.ended() == entries[5:]
    taken = steps(entries)
    assert taken == list(range(1, len(taken) + 1))
