"""Row 50: the shim is killed while its training child lives."""

from __future__ import annotations

import os
import signal

import pytest
from tunewright.v1 import job_pb2

from tests.faults.attempt_gate import waiting_for
from tests.faults.harness import PATIENCE_SECONDS, Installation
from tests.faults.nothing_lost import check_nothing_lost, events, moves, steps
from tests.support.alive import is_running
from tests.support.eventually import eventually_sync


@pytest.mark.parametrize("service", ["there", "away"])
def test_50_the_tree_is_found_ended_and_retried(installation: Installation, service: str) -> None:
    never, at_once, pid_file = (installation.root / name for name in ("never", "now", "pid"))
    at_once.touch()
    job = installation.submit(
        ["entries", 3],
        ["grandchild", str(pid_file)],
        ["on_term", "ignore"],
        waiting_for(never, at_once),
        ["complete"],
    )
    child = installation.await_child("a", job)
    installation.await_state(job, "RUNNING")
    eventually_sync(pid_file.exists, PATIENCE_SECONDS, "a grandchild in a session of its own")
    grandchild = int(eventually_sync(pid_file.read_text, 10, "its pid"))
    shim = installation.file("a", job, "process.json")["shim"]["pid"]

    if service == "away":
        installation.trainers["a"].kill()
    os.kill(shim, signal.SIGKILL)
    if service == "away":
        assert is_running(child)
        installation.trainers["a"].start()

    entries = check_nothing_lost(installation, job, attempts=2)
    assert (is_running(child), is_running(grandchild)) == (False, False)
    first = job.proto.attempts[0]
    assert first.failure.cause == job_pb2.FAILURE_CAUSE_CRASHED
    assert "RECOVERING" in moves(entries)
    assert events(entries, attempt=1).count("RUN_FAILED") == 1
    assert (steps(entries, 1), steps(entries, 2)) == ([1, 2, 3], [1, 2, 3])
