"""Runs of the ms-swift child, as tests start, stop and read them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.eventually import eventually_sync
from tests.unit.child.run_folders import RunFolder, make_run_folder

STAND_IN = Path(__file__).parent / "stand_in"
END_SECONDS = 200.0
# 16 steps in two epochs of 64 rows.
WHOLE: dict[str, Any] = {
    "num_train_epochs": 2.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "save_steps": 6,
    "logging_steps": 1,
    "load_in_4bit": False,
}


def stand_in_environment(folder: Path) -> Path:
    """The Python of an environment in `folder` in which the stand-in is installed."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    python = commands / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{STAND_IN}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (commands / "swift").symlink_to(STAND_IN / "swift_command.py")
    return python


def make_swift_folder(
    root: Path,
    model: Path | str,
    train: Path | str,
    python: Path,
    *,
    document: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    **more: Any,
) -> RunFolder:
    """A run folder for the ms-swift child; `document` goes over spec.json's own fields, `spec`
    over those of the job's spec."""
    fields = {
        "backend": "BACKEND_SWIFT",
        "swift": {"model_type": "qwen3", "template": "qwen3"},
        "strict": True,
        "max_dropped_fraction": 0.1,
        **(spec or {}),
    }
    folder = make_run_folder(root, model, train, spec_fields=fields, **{**WHOLE, **more})
    file = folder.path / "spec.json"
    written = json.loads(file.read_bytes())
    written["swift"] = {"python": str(python), "version": "4.6.0"}
    file.write_text(json.dumps({**written, **(document or {})}))
    return folder


class SwiftChild:
    """The child in a process of its own."""

    def __init__(self, folder: RunFolder, **wrong: Any) -> None:
        self.folder = folder
        self._log = folder.path / "stdout.log"
        environment = {**os.environ, "STAND_IN": json.dumps(wrong), "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trainer_svc.child.swift", str(folder.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait(self) -> int:
        """The exit code."""
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the run did not end:\n{self.output}") from None

    def kill(self) -> None:
        """Ends it and all that it has started."""
        below = psutil.Process(self._process.pid).children(recursive=True)
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()

    def stop(self, mode: str) -> None:
        """As the shim does: the why first, then SIGTERM to the group."""
        stop = json.dumps({"mode": mode, "grace_seconds": 30.0})
        (self.folder.path / "stop.json").write_text(stop)
        os.killpg(self._process.pid, signal.SIGTERM)

    def until_step(self, step: int) -> None:
        self.until(lambda: len(self.folder.losses()) >= step)

    def until_event(self, kind: str) -> None:
        self.until(lambda: kind in self.folder.event_types())

    def until(self, condition: Callable[[], object]) -> None:
        """Waits for it; ends the child if it does not come about."""
        try:
            eventually_sync(condition, END_SECONDS)
        except AssertionError:
            self.kill()
            raise
