"""`tunewright up` with the real services as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from tunewright import Client
from tunewright.errors import TunewrightError

from tests.support.eventually import eventually_sync

FREE_PORTS = [
    "--scheduler-listen", "127.0.0.1:0",
    "--monitor-listen", "127.0.0.1:0",
    "--trainer-listen", "127.0.0.1:0",
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--model-root", "/nowhere"], "--model-root /nowhere: no such folder"),
        (["--data-root", ".", "--data-root", "/nowhere"], "--data-root /nowhere: no such folder"),
        (["--data-root", "file"], "--data-root file: is not a folder"),
        (["--swift-python", "/nowhere/python"], "--swift-python /nowhere/python: no such file"),
        (["--state", "file"], "file: cannot keep the state here: Not a directory"),
    ],
)
def test_a_folder_that_is_not_there_is_refused_at_start(
    tmp_path: Path, arguments: list[str], problem: str
) -> None:
    (tmp_path / "file").touch()

    done = subprocess.run(
        [sys.executable, "-m", "tunewright", "up", *FREE_PORTS, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert done.stderr.rstrip().endswith(problem)
    assert "Traceback" not in done.stderr


class Up:
    """A running `tunewright up`."""

    def __init__(self, state: Path, *more: str) -> None:
        self.state = state
        argv = [sys.executable, "-m", "tunewright", "up", "--json", "--state", str(state)]
        self.process = subprocess.Popen(
            [*argv, *FREE_PORTS, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=state.parent,
        )

    def addresses(self) -> Mapping[str, str]:
        """What it prints once everything is up."""
        assert self.process.stdout is not None
        told: Mapping[str, str] = json.loads(self.process.stdout.readline())
        return told

    def pid_of(self, service: str) -> int:
        """Of a service, as its ready file says."""
        told = json.loads((self.state / "run" / f"{service}.json").read_text())
        return int(told["pid"])

    def pids(self) -> list[int]:
        """Of all services."""
        return [self.pid_of(service) for service in ("scheduler", "monitor", "trainer")]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Signals it; its exit code and what it said on stderr."""
        self.process.send_signal(number)
        _, told = self.process.communicate(timeout=60)
        return self.process.returncode, told


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path / "state")
    yield started
    if started.process.poll() is None:
        started.end()


def trainer_states(address: str) -> list[int]:
    try:
        with Client(address, timeout=2) as client:
            return [trainer.state for trainer in client.trainers.list()]
    except TunewrightError:
        return []


def test_up_serves_drains_on_a_signal_and_leaves_nothing_running(up: Up) -> None:
    addresses = up.addresses()
    with Client(addresses["scheduler"]) as client:
        monitors = list(client.endpoints().monitors)
        [trainer] = client.trainers.list()
    pids = up.pids()

    code, told = up.end(signal.SIGINT)

    assert monitors == [addresses["monitor"]]
    assert (trainer.name, trainer.address) == ("trainers/local", addresses["trainer"])
    assert trainer.capabilities.cpu_slots == 1
    assert code == 0
    assert told.endswith("Stopped.\n")
    assert not any(map(psutil.pid_exists, pids))


def test_a_service_that_dies_is_started_again_where_it_was(up: Up) -> None:
    address = up.addresses()["scheduler"]
    before = up.pid_of("scheduler")

    os.kill(before, signal.SIGKILL)
    eventually_sync(lambda: trainer_states(address) and up.pid_of("scheduler") != before, 60)
    _, told = up.end()

    assert "scheduler ended (signal 9); again in 1 s (log: " in told


def test_services_end_when_up_itself_is_killed(up: Up) -> None:
    up.addresses()
    pids = up.pids()

    up.end(signal.SIGKILL)

    eventually_sync(lambda: not any(map(psutil.pid_exists, pids)), 30, "services have ended")


def test_a_second_up_on_one_state_is_refused(up: Up) -> None:
    up.addresses()

    second = Up(up.state)
    _, told = second.process.communicate(timeout=60)

    assert second.process.returncode == 2
    assert "is in use by another `tunewright up` or `demo`" in told


def test_a_configuration_that_a_service_refuses_is_one_line(tmp_path: Path) -> None:
    refused = Up(tmp_path / "state", "--monitor-listen", "0.0.0.0:0")

    _, told = refused.process.communicate(timeout=60)

    assert refused.process.returncode == 2
    message = json.loads(told.splitlines()[-1])["error"]["message"]
    assert message.startswith("monitor did not start: configuration error:")
    assert "not a loopback address" in message


def test_without_the_server_packages_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['trainer_svc'] = None\n"
        f"sys.argv = ['tunewright', 'up', '--state', {str(tmp_path / 'state')!r}]\n"
        "from tunewright.cli import main; main()"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert "the trainer is not installed here: pip install 'tunewright-server[train]'" in (
        done.stderr
    )
    assert not (tmp_path / "state").exists()
