"""Processes that are stopped, not killed: at a named point, or wherever they are."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from tests.support.eventually import eventually_sync
from tests.support.stack import ServiceProcess

PATIENCE_SECONDS = 30.0
# From its start until its libraries are loaded, on a busy machine.
FIRST_STEP_SECONDS = 150.0


def stopping(point: str) -> dict[str, str]:
    """The environment in which a service stops itself at a named point (svckit/crash.py)."""
    return {"TUNEWRIGHT_STOP_POINT": point}


def stops_at(service: ServiceProcess, point: str) -> None:
    """Waits until the service has stopped itself at this point."""

    def stopped() -> bool:
        said = f"stop point reached: {point}" in service.log_file.read_text()
        return said and is_stopped(service.pid)

    eventually_sync(stopped, PATIENCE_SECONDS, f"{service.name} stops at {point}")


def stop_processes(pids: Iterable[int]) -> None:
    """SIGSTOP to each; returns once all stand still."""
    pids = list(pids)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        eventually_sync(lambda: is_stopped(pid), 10, f"{pid} stands still")  # noqa: B023 # at once


def let_go_on(pids: Iterable[int]) -> None:
    """SIGCONT to each."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """True while it stands still."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def stop_child_at(run: Path, step: int) -> int:
    """Stops the training child of a run folder once it has logged a step; its pid.

    So what a test does next happens in the middle of the run, however fast that is.
    """
    eventually_sync(
        lambda: last_step(run) >= step, FIRST_STEP_SECONDS, f"step {step} of {run.parent.name}"
    )
    pid = child_of(run)
    stop_processes([pid])
    assert not (run / "result.json").exists(), "it was too quick to be stopped in the middle"
    return pid


def child_of(run: Path) -> int:
    """The pid of a run's training process, as its shim has recorded it."""
    return int(json.loads((run / "process.json").read_text())["child"]["pid"])


def last_step(run: Path) -> int:
    """The last step in a run's spool; 0 before the first."""
    spool = run / "spool.jsonl"
    whole = spool.read_text().rpartition("\n")[0].splitlines() if spool.exists() else []
    steps = [json.loads(line)["train_metrics"]["step"] for line in whole if "train_metrics" in line]
    return int(steps[-1]) if steps else 0
