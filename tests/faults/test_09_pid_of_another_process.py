"""Row 9: the recorded pid belongs to another process by now."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tunewright.jobs import Job
from tunewright.v1 import job_pb2

from tests.faults.harness import Installation, kill_tree
from tests.faults.nothing_lost import check_nothing_lost, moves

# Says each signal that it gets; none may come.
LISTENER = """
import signal, sys
numbers = [n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
print(signal.sigwait(numbers), flush=True)
"""


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[str]]:
    """A process that has nothing to do with any run; leads a session, as a shim does."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_09_another_process_is_never_signalled(
    installation: Installation, stranger: subprocess.Popen[str]
) -> None:
    job = installation.submit(["entries", 2], ["wait"], attempts_max=1)
    _replace_tree(installation, job, stranger.pid)
    installation.trainers["a"].start()

    check_nothing_lost(installation, job, "FAILED")
    assert job.failure is not None
    assert job.failure.cause == job_pb2.FAILURE_CAUSE_LOST
    assert stranger.poll() is None


def test_09_not_even_for_a_cancel(
    installation: Installation, stranger: subprocess.Popen[str]
) -> None:
    job = installation.submit(["entries", 2], ["wait"])
    _replace_tree(installation, job, stranger.pid)
    job.cancel()
    installation.trainers["a"].start()

    entries = check_nothing_lost(installation, job, "CANCELLED")
    assert moves(entries)[-2:] == ["CANCELLING", "CANCELLED"]
    assert stranger.poll() is None


def _replace_tree(installation: Installation, job: Job, pid: int) -> None:
    """The service and the run's processes die, and their numbers are given to another."""
    installation.await_steps("a", job, 2)
    installation.await_state(job, "RUNNING")
    installation.trainers["a"].kill()
    kill_tree(installation, "a", job)
    recorded = installation.file("a", job, "process.json")
    for name in ("shim", "child"):
        recorded[name]["pid"] = pid
    (installation.run("a", job) / "process.json").write_text(json.dumps(recorded))
