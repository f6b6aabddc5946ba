"""Row 12: the host reboots: its boot id is another one."""

from __future__ import annotations

import time

import pytest
from tunewright.v1 import job_pb2

from tests.faults.harness import Installation, kill_tree, training
from tests.faults.nothing_lost import check_nothing_lost, events, moves, steps

# The LOST window of these installations, and the job's own back-off, are longer.
AT_ONCE_SECONDS = 30.0
BACKOFF_SECONDS = 300.0


@pytest.mark.parametrize("pid_is_taken", [False, True])
def test_12_runs_of_a_rebooted_host_are_queued_again_at_once(
    bare: Installation, pid_is_taken: bool
) -> None:
    boot_id = bare.root / "boot_id"
    boot_id.write_text("boot-1\n")
    bare.add_trainers("a", flags=["--boot-id-file", str(boot_id)])
    go = bare.root / "go"
    plan = training(steps=8, save_every=2, hold=str(go), hold_at_step=5)
    job = bare.submit(plan, ["complete"], retry_backoff=BACKOFF_SECONDS)
    bare.await_steps("a", job, 5)
    bare.await_state(job, "RUNNING")
    recorded = bare.file("a", job, "process.json")
    assert recorded["shim"]["boot_id"] == "boot-1"

    bare.trainers["a"].kill()
    if not pid_is_taken:
        kill_tree(bare, "a", job)
    boot_id.write_text("boot-2\n")
    back_since = time.monotonic()
    bare.trainers["a"].start()
    bare.await_state(job, "STARTING", "RUNNING", attempt=2)
    took_seconds = time.monotonic() - back_since
    if pid_is_taken:  # what has those numbers now is not the run's: it was left alone
        kill_tree(bare, "a", job)
    go.touch()

    entries = check_nothing_lost(bare, job, attempts=2)
    assert took_seconds < AT_ONCE_SECONDS
    causes = [one.state_change.failure.cause for one in entries if one.state_change.failure.cause]
    assert causes == [job_pb2.FAILURE_CAUSE_LOST]
    assert moves(entries)[2:6] == ["RUNNING", "RECOVERING", "QUEUED", "STARTING"]
    assert steps(entries, 1) == [1, 2, 3, 4, 5]
    assert steps(entries, 2) == [5, 6, 7, 8]
    assert "RESUMED" in events(entries, 2)
