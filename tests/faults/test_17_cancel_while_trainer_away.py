"""Row 17: a cancel while the trainer is away."""

from __future__ import annotations

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost, events, moves, stored_entries
from tests.support.alive import is_running


def test_17_the_intent_survives_both_services(bare: Installation) -> None:
    bare.add_trainers("a")
    job = bare.submit(["on_term", "stop"], ["entries", 1], ["wait"])
    child = bare.await_child("a", job)
    bare.await_state(job, "RUNNING")
    bare.trainers["a"].kill()

    assert job.cancel().state == "CANCELLING"
    bare.scheduler.kill()
    bare.scheduler.start()
    assert job.refresh().state == "CANCELLING"
    assert is_running(child)
    bare.trainers["a"].start()

    entries = check_nothing_lost(bare, job, "CANCELLED")
    assert moves(entries)[-2:] == ["CANCELLING", "CANCELLED"]
    assert bare.file("a", job, "stop.json")["mode"] == "CANCEL"


def test_17_it_is_carried_out_at_the_next_heartbeat(bare: Installation) -> None:
    bare.add_trainers("a", linked=True)
    job = bare.submit(["on_term", "stop"], ["entries", 1], ["wait"])
    child = bare.await_child("a", job)
    bare.await_state(job, "RUNNING")
    bare.links["a"].cut()
    bare.await_trainer("a", "SUSPECT")

    job.cancel()
    bare.await_log(bare.scheduler, "delivery left to the heartbeat")
    assert job.refresh().state == "CANCELLING"
    assert is_running(child)
    bare.links["a"].to_scheduler.heal()  # its heartbeats only: nobody can call it yet

    bare.await_state(job, "CANCELLED")
    assert not is_running(child)
    bare.links["a"].heal()
    check_nothing_lost(bare, job, "CANCELLED")


def test_17_on_a_lost_host_it_ends_unconfirmed_and_the_slot_stays_taken(
    losing: Installation,
) -> None:
    losing.add_trainers("a", linked=True)
    job = losing.submit(["on_term", "ignore"], ["entries", 1], ["wait"])
    child = losing.await_child("a", job)
    losing.await_state(job, "RUNNING")
    losing.links["a"].cut()

    job.cancel()
    losing.await_state(job, "CANCELLED")
    assert is_running(child)
    assert losing.await_trainer("a", "LOST").jobs == [job.name]
    waiting = losing.submit(["entries", 1], ["complete"], output_dir="next")
    losing.links["a"].heal()

    new = losing.await_child("a", waiting)
    assert not is_running(child)
    assert new != child
    check_nothing_lost(losing, waiting)
    entries = stored_entries(losing, job)
    assert "STOP_UNCONFIRMED" in events(entries)
    assert moves(entries)[-2:] == ["CANCELLING", "CANCELLED"]
    assert [one.sequence for one in entries] == list(range(1, len(entries) + 1))
    assert not (losing.outputs / "out").exists()
