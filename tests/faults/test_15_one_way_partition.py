"""Row 15: a one-way partition: the trainer hears, and is not heard."""

from __future__ import annotations

import psutil

from tests.faults.harness import Installation
from tests.faults.nothing_lost import await_whole_run, check_nothing_lost, moves, steps
from tests.support.alive import is_running


def test_15_lost_by_unacknowledged_heartbeats(losing: Installation) -> None:
    go = losing.root / "go"
    losing.add_trainers("a", linked=True)
    job = losing.submit(["entries", 2], ["wait_for", str(go)], ["complete"])
    old = losing.await_child("a", job)
    losing.await_state(job, "RUNNING")
    losing.await_steps("a", job, 2)
    link = losing.links["a"]

    link.to_scheduler.cut("to_server")
    losing.await_trainer("a", "LOST")
    assert _is_connected(losing.trainers["a"].pid, link.to_scheduler.address)
    losing.add_trainers("b")
    losing.await_state(job, "RUNNING", attempt=2)
    assert is_running(old)
    link.heal()
    losing.await_file("a", job, "exit.json")
    await_whole_run(losing, "a", job)
    go.touch()

    entries = check_nothing_lost(losing, job, attempts=2)
    assert not losing.file("a", job, "published.json")
    assert (steps(entries, 1), steps(entries, 2)) == ([1, 2], [1, 2])
    assert moves(entries).count("RECOVERING") == 1


def _is_connected(pid: int, address: str) -> bool:
    """Whether the process has an open connection to this address."""
    port = int(address.rpartition(":")[2])
    return any(
        one.status == psutil.CONN_ESTABLISHED and one.raddr[1:] == (port,)
        for one in psutil.Process(pid).net_connections("tcp")
    )
