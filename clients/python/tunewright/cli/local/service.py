"""One service as a child process: start, ready, ended, stop.

Owns the process by its pid and its log file; decides nothing about restarts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS = 20.0


@dataclass
class LocalService:
    """A service of this machine. `address` is its real one once it is ready."""

    name: str
    arguments: list[str]
    listen: str
    log_file: Path
    ready_file: Path
    address: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Starts it; again on the address it had, so that nobody has to look for it."""
        self.ready_file.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tunewright.cli.local.launch", str(os.getpid())]
        argv += [f"{self.name}_svc", "--listen", self.address or self.listen]
        argv += ["--ready-file", str(self.ready_file), *self.arguments]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches this command only, which stops services in their order.
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """True once it has said its address; sets `address`."""
        try:
            told = json.loads(self.ready_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        if self._process is None or told.get("pid") != self._process.pid:
            return False
        self.address = str(told["address"])
        return True

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs or before it was started."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Started, and not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> bool:
        """SIGTERM, a bounded wait, then SIGKILL; False if that was needed. Safe to call twice."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return True
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True

    def last_line(self) -> str:
        """The last line it printed: on a broken configuration, what is wrong."""
        try:
            lines = self.log_file.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class RestartPause:
    """How long to wait before a service that ended is started again: 1, 2, 4, ... 30 s.

    One that ran for a minute starts from the beginning. Times in seconds, monotonic.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._started = time.monotonic()

    def started(self, now: float) -> None:
        """It was started."""
        self._started = now

    def next_seconds(self, now: float) -> float:
        """It ended: the wait before the next start."""
        if now - self._started > 60:
            self._failures = 0
        self._failures += 1
        return float(min(2 ** (self._failures - 1), 30))
