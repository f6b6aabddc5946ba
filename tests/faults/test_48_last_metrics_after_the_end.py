"""Row 48: a job's last metrics reach the monitor after its end was recorded."""

from __future__ import annotations

from tests.faults.harness import PATIENCE_SECONDS, Installation
from tests.faults.nothing_lost import check_nothing_lost, steps, stored_entries
from tests.faults.subscriber import Subscriber
from tests.support.eventually import eventually_sync


def test_48_subscribers_see_them_before_the_terminal_entry(bare: Installation) -> None:
    bare.add_trainers("a", linked=True)
    go = bare.root / "go"
    job = bare.submit(["entries", 5], ["wait_for", str(go)], ["entries", 20], ["complete"])
    subscriber = Subscriber(bare.scheduler.address, job.name)
    eventually_sync(lambda: steps(subscriber.entries) == [1, 2, 3, 4, 5], PATIENCE_SECONDS, "5")

    bare.links["a"].to_trainer.cut()  # the monitor hears it no more; the scheduler still does
    go.touch()
    bare.await_state(job, "SUCCEEDED")
    publishing = eventually_sync(
        lambda: [one for one in stored_entries(bare, job) if one.state_change.to],
        PATIENCE_SECONDS,
        "what the scheduler says",
    )
    assert all(one.state_change.to != job.proto.state for one in publishing)
    assert steps(stored_entries(bare, job)) == [1, 2, 3, 4, 5]
    bare.links["a"].to_trainer.heal()

    entries = check_nothing_lost(bare, job)
    assert steps(entries) == list(range(1, 26))
    assert subscriber.ended() == entries
