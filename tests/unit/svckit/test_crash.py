"""Crash and stop points: inert, unless the environment names them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.eventually import eventually_sync
from tests.support.stopping import is_stopped

CODE = "from svckit.crash import crash_point; crash_point('here'); print('went on', flush=True)"


def run(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("variable", ["TUNEWRIGHT_CRASH_POINT", "TUNEWRIGHT_STOP_POINT"])
def test_another_point_is_passed(variable: str) -> None:
    process = run(**{variable: "elsewhere"})

    out, error = process.communicate(timeout=30)

    assert (process.returncode, out, error) == (0, "went on\n", "")


def test_a_crash_point_kills() -> None:
    process = run(TUNEWRIGHT_CRASH_POINT="here")

    out, error = process.communicate(timeout=30)

    assert process.returncode == -signal.SIGKILL
    assert (out, error) == ("", "crash point reached: here\n")


def test_a_stop_point_stops_until_sigcont() -> None:
    process = run(TUNEWRIGHT_STOP_POINT="here")
    eventually_sync(lambda: is_stopped(process.pid), 30, "it stands still")

    os.kill(process.pid, signal.SIGCONT)
    out, error = process.communicate(timeout=30)

    assert (process.returncode, out) == (0, "went on\n")
    assert error == "stop point reached: here\n"
