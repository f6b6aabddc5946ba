"""The shim as a real process, over children that a line of Python makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import eventually_sync

SHIM = [sys.executable, "-m", "trainer_svc.child.shim"]
ROOT = Path(__file__).parents[3]


class Folder:
    """A run folder with one shim, or several."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[subprocess.Popen[bytes]] = []

    def write(self, code: str, **more: Any) -> None:
        spec = {"argv": [sys.executable, "-c", code], "environment": {}, **more}
        (self.path / "spec.json").write_text(json.dumps(spec))

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*SHIM, str(self.path)], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
        )
        self.started.append(process)
        return process

    def run(self) -> dict[str, Any]:
        assert self.start().wait(20) == 0
        return self.read("exit.json")

    def read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        value: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return value

    def wait_for_child(self) -> int:
        eventually_sync(lambda: self.read("process.json").get("child"))
        return int(self.read("process.json")["child"]["pid"])

    def wait_for_file(self, name: str) -> str:
        file = self.path / name
        return eventually_sync(lambda: file.exists() and file.read_text()) or ""

    def stop(self, mode: str, grace_seconds: float) -> None:
        stop = {"mode": mode, "grace_seconds": grace_seconds}
        (self.path / "stop.json").write_text(json.dumps(stop))
        self.started[0].send_signal(signal.SIGTERM)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_exit_code_is_recorded_last(folder: Folder) -> None:
    folder.write("raise SystemExit(7)")

    exited = folder.run()

    assert (exited["exit_code"], exited["signal"], exited["killed_by_us"]) == (7, None, False)


def test_the_signal_is_recorded(folder: Folder) -> None:
    folder.write("import os; os.kill(os.getpid(), 11)")

    exited = folder.run()

    assert (exited["exit_code"], exited["signal"]) == (None, signal.SIGSEGV)


def test_a_command_that_cannot_be_started_is_said_so(folder: Folder) -> None:
    folder.write("", argv=["/nonexistent/python"])

    exited = folder.run()

    assert (exited["exit_code"], exited["signal"]) == (None, None)
    assert "cannot start" in (folder.path / "stdout.log").read_text()


def test_output_is_copied_and_capped(folder: Folder) -> None:
    code = "import sys; sys.stdout.write('x' * 5000); sys.stderr.write('y' * 5000)"
    folder.write(code, stdout_bytes_max=1000)

    folder.run()

    text = (folder.path / "stdout.log").read_text()
    assert text.startswith("x" * 1000 + "\n[output cut here")
    assert len(text) < 1100


def test_a_second_shim_for_one_folder_gives_way(folder: Folder) -> None:
    folder.write("import time; time.sleep(600)")
    folder.start()
    child = folder.wait_for_child()

    second = folder.start()

    assert second.wait(10) == 3
    assert folder.wait_for_child() == child
    folder.stop("CANCEL", 5)
    assert folder.started[0].wait(10) == 0


def test_a_folder_is_run_once(folder: Folder) -> None:
    folder.write("open('ran', 'a').write('x')")
    folder.run()

    again = folder.start()

    assert again.wait(10) == 4
    assert (folder.path / "ran").read_text() == "x"


def test_a_stop_that_came_first_starts_no_child(folder: Folder) -> None:
    folder.write("open('ran', 'w')")
    (folder.path / "stop.json").write_text('{"mode": "CANCEL", "grace_seconds": 5}')

    exited = folder.run()

    assert exited["stop_mode"] == "CANCEL"
    assert not (folder.path / "ran").exists()


def test_a_child_is_asked_first(folder: Folder) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(15, lambda *_: sys.exit(0))\n"
        "pathlib.Path('ready').write_text('x')\n"
        "time.sleep(600)"
    )
    folder.write(code)
    folder.start()
    folder.wait_for_file("ready")

    folder.stop("PAUSE", 20)
    folder.started[0].wait(10)

    exited = folder.read("exit.json")
    assert (exited["exit_code"], exited["killed_by_us"], exited["stop_mode"]) == (0, False, "PAUSE")


IGNORES = "import signal, time, pathlib, os\nsignal.signal(15, signal.SIG_IGN)\n"


@pytest.mark.parametrize("mode", ["CANCEL", "FENCE"])
def test_a_child_that_ignores_the_signal_is_killed_after_the_grace(
    folder: Folder, mode: str
) -> None:
    folder.write(IGNORES + "pathlib.Path('ready').write_text('x')\ntime.sleep(600)")
    folder.start()
    folder.wait_for_file("ready")

    folder.stop(mode, 0.3)
    folder.started[0].wait(10)

    exited = folder.read("exit.json")
    assert (exited["signal"], exited["killed_by_us"]) == (signal.SIGKILL, True)


def test_a_checkpoint_that_is_being_written_gets_more_time(folder: Folder) -> None:
    checkpoints = folder.path / "checkpoints"
    code = IGNORES + (
        "aside = pathlib.Path('checkpoints/.tmp-1'); aside.mkdir(parents=True)\n"
        "pathlib.Path('ready').write_text('x')\n"
        "while not pathlib.Path('stop.json').exists(): time.sleep(0.01)\n"
        "for n in range(15): (aside / str(n)).write_text('x'); time.sleep(0.1)\n"
        "aside.rename('checkpoints/00000001')"
    )
    folder.write(code, paths={"checkpoints": str(checkpoints)})
    folder.start()
    folder.wait_for_file("ready")

    folder.stop("PAUSE", 0.2)
    folder.started[0].wait(20)

    assert folder.read("exit.json")["exit_code"] == 0
    assert (checkpoints / "00000001").is_dir()


def test_grandchildren_in_sessions_of_their_own_are_ended(folder: Folder) -> None:
    grandchild = (
        IGNORES + "pathlib.Path('grandchild').write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True)\n"
        "time.sleep(600)"
    )
    folder.write(code)
    folder.start()
    pid = int(folder.wait_for_file("grandchild"))

    folder.stop("CANCEL", 5)
    folder.started[0].wait(10)

    assert not exists(pid)


def test_what_a_child_leaves_behind_is_ended_before_exit_json(folder: Folder) -> None:
    grandchild = (
        IGNORES + "pathlib.Path('grandchild').write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    code = (
        "import subprocess, sys, time, pathlib\n"
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True)\n"
        "while not pathlib.Path('grandchild').exists(): time.sleep(0.01)"
    )
    folder.write(code)

    exited = folder.run()

    assert exited["exit_code"] == 0
    assert not exists(int((folder.path / "grandchild").read_text()))


def test_a_signal_during_the_start_is_not_lost(folder: Folder) -> None:
    """The service spawns it with SIGTERM blocked; the stop comes before it listens."""
    folder.write("import time; time.sleep(600)")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        folder.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    folder.stop("CANCEL", 5)

    assert folder.started[0].wait(15) == 0
    assert folder.read("exit.json")["stop_mode"] == "CANCEL"


def test_the_child_itself_can_be_signalled(folder: Folder) -> None:
    """The blocked signal must not be inherited by the child."""
    folder.write("import time; time.sleep(600)")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        folder.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    folder.wait_for_child()

    folder.stop("CANCEL", 20)
    folder.started[0].wait(10)

    assert folder.read("exit.json")["signal"] == signal.SIGTERM


def test_the_shim_imports_nothing_heavy() -> None:
    code = "import sys, trainer_svc.child.shim; print(*sorted(sys.modules))"

    listed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    heavy = {"torch", "grpc", "pydantic", "asyncio", "svckit", "google.protobuf"}
    assert not heavy & set(listed.stdout.split())
