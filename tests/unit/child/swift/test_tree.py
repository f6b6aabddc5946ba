"""Which processes a tree of ms-swift's ends: its own, and no others."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.alive import is_running
from tests.support.eventually import eventually_sync
from trainer_svc.child.swift.process import Tree

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
# Its child is in a session of its own, and stays when it ends.
LEAVES = f"""
import subprocess, sys
subprocess.Popen({SLEEPS!r}, start_new_session=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(SLEEPS) as process:
        yield process
        process.kill()


def test_a_tree_ends_all_that_came_after_it_and_nothing_that_was_there(
    tmp_path: Path, other: subprocess.Popen[bytes]
) -> None:
    tree = Tree()
    program = tree.start([sys.executable, "-c", LEAVES], {}, tmp_path, asks=True)
    below = psutil.Process(program.pid)
    eventually_sync(lambda: below.children(), 30, "the process that it leaves")
    (left,) = below.children()

    tree.end()

    program.ask(b"")  # both only close our ends of its pipes
    program.read(10.0)
    assert program.poll() is not None
    eventually_sync(lambda: not is_running(left.pid), 10, "what was left is gone")
    assert other.poll() is None
