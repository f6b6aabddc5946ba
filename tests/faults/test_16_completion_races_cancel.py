"""Row 16: a completion races a cancel."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from tunewright import Client
from tunewright.errors import ForbiddenMove
from tunewright.jobs import Job

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, moves

RACES = 6


def test_16_a_cancel_before_the_grant_wins(bare: Installation) -> None:
    job = _stopped_at(bare, "before_begin_publish")

    assert job.cancel().state == "CANCELLING"
    bare.trainers["a"].start()

    entries = check_nothing_lost(bare, job, "CANCELLED")
    assert moves(entries)[-2:] == ["CANCELLING", "CANCELLED"]


def test_16_a_cancel_while_the_grant_is_asked_for_wins(bare: Installation) -> None:
    trainer = bare.trainer("a")
    trainer.start(TUNEWRIGHT_STOP_POINT="before_begin_publish")
    job = bare.submit(["entries", 1], ["complete"])
    bare.await_log(trainer, "stop point reached: before_begin_publish")

    assert job.cancel().state == "CANCELLING"
    os.kill(trainer.pid, signal.SIGCONT)

    entries = check_nothing_lost(bare, job, "CANCELLED")
    assert moves(entries)[-2:] == ["CANCELLING", "CANCELLED"]


def test_16_a_grant_before_the_cancel_wins(bare: Installation) -> None:
    job = _stopped_at(bare, "publish_granted")

    with pytest.raises(ForbiddenMove):
        job.cancel()
    assert job.refresh().state == "PUBLISHING"
    bare.trainers["a"].start()

    entries = check_nothing_lost(bare, job)
    assert moves(entries)[-2:] == ["PUBLISHING", "SUCCEEDED"]
    with pytest.raises(ForbiddenMove):
        job.cancel()


def test_16_both_callers_see_the_same_end(bare: Installation) -> None:
    bare.add_trainers("a", flags=["--cpu-slots", str(RACES)])
    go = bare.root / "go"
    jobs = [
        bare.submit(["on_term", "stop"], ["wait_for", str(go)], ["complete"], output_dir=f"o{one}")
        for one in range(RACES)
    ]
    for job in jobs:
        bare.await_state(job, "RUNNING")

    cancels = [_Cancel(bare, job) for job in jobs]
    go.touch()
    ends = [job.wait(timeout=30).state for job in jobs]
    for cancel in cancels:
        cancel.join(30)

    for job, end, cancel in zip(jobs, ends, cancels, strict=True):
        assert end in ("SUCCEEDED", "CANCELLED")
        assert cancel.seen == end
        assert cancel.refused is (end == "SUCCEEDED")
        check_nothing_lost(bare, job, end)


class _Cancel(threading.Thread):
    """Cancels a job once it has staged its result, and waits for the end on its own."""

    def __init__(self, installation: Installation, job: Job) -> None:
        super().__init__(daemon=True)
        self._installation, self._name = installation, job.name
        self._staged = installation.outputs / ".staging" / f"{job.id}-1" / "manifest.json"
        self.refused, self.seen = False, ""
        self.start()

    def run(self) -> None:
        with Client(self._installation.scheduler.address) as client:
            job = client.jobs.get(self._name)
            while not self._staged.exists() and not job.refresh().is_terminal:
                pass
            try:
                job.cancel()
            except ForbiddenMove:
                self.refused = True
            self.seen = job.wait(timeout=30).state


def _stopped_at(bare: Installation, point: str) -> Job:
    """A job whose training is done, and whose trainer died at this point."""
    trainer = bare.trainer("a")
    trainer.start(**armed(point))
    job = bare.submit(["entries", 1], ["complete"])
    crashes_at(trainer, point)
    return job
