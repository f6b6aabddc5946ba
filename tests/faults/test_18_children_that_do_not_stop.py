"""Row 18: the child ignores SIGTERM, or a grandchild in a session of its own does."""

from __future__ import annotations

import psutil
import pytest

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost, moves
from tests.support import daemon_below
from tests.support.alive import is_running
from tests.support.eventually import eventually_sync


@pytest.mark.parametrize("child", ["ignore", "stop"])
@pytest.mark.parametrize("grandchild", ["none", "session", "daemon"])
def test_18_cancelled_only_when_the_whole_tree_is_gone(
    installation: Installation, child: str, grandchild: str
) -> None:
    pid_file = installation.root / "grandchild"
    below = {
        "none": [],
        "session": [["grandchild", str(pid_file)]],
        "daemon": [["run_file", daemon_below.__file__, str(pid_file)]],
    }[grandchild]
    job = installation.submit(["on_term", child], *below, ["entries", 1], ["wait"])
    tree = [installation.await_child("a", job)]
    installation.await_steps("a", job, 1)
    installation.await_state(job, "RUNNING")
    tree += [int(pid_file.read_text())] if below else []
    tree += [psutil.Process(tree[0]).ppid()]  # the shim
    assert [is_running(pid) for pid in tree] == [True] * len(tree)

    assert job.cancel().state == "CANCELLING"

    def cancelled() -> bool:
        state = job.refresh().state
        left = [pid for pid in tree if is_running(pid)]
        assert state == "CANCELLING" or (state, left) == ("CANCELLED", [])
        return state == "CANCELLED"

    eventually_sync(cancelled, 20, "CANCELLED")
    entries = check_nothing_lost(installation, job, "CANCELLED")
    assert moves(entries)[-2:] == ["CANCELLING", "CANCELLED"]
    ended = installation.file("a", job, "exit.json")
    assert ended["stop_mode"] == "CANCEL"
    assert ended["killed_by_us"] is (child == "ignore")
