"""PID 1 of a trainer's container: keeps the service running, and lives on when it is replaced.

`python -m trainer_svc.pid_one [FLAG...]`; the flags are the service's. A container ends
with its PID 1, and every process in it; runs are to outlive their service, so
the service must not be PID 1. SIGHUP replaces the service, and so does its
death; runs go on and are taken back. SIGTERM and SIGINT drain the service and
end this process, and the container with it: what trained is resumed from its last checkpoint.

Reaps what others leave behind. Writes a new boot id at each start: to the
runs, a container that is started again is a host that was. Standard library
only: it must stay small, and never fail.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import uuid
from collections.abc import MutableMapping, Sequence
from pathlib import Path

BOOT_ID_VARIABLE = "TUNEWRIGHT_TRAINER_BOOT_ID_FILE"
BOOT_ID_FILE = "/run/tunewright/boot-id"
# The service's own drain (10 s unless it is told otherwise), and time to end.
STOP_SECONDS = 30.0
# After these it is started again, the longer the more often it has ended in a row.
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
# One that ran for so long starts from the first pause again.
SETTLED_SECONDS = 60.0
EXIT_BAD_CONFIGURATION = 2
# As of a shell whose command cannot be run.
EXIT_NOT_STARTED = 126
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_PR_SET_CHILD_SUBREAPER = 36


class PidOne:
    """The service below this process: started, replaced, ended."""

    def __init__(self, argv: list[str], environment: MutableMapping[str, str]) -> None:
        self._argv = argv
        self._environment = environment
        self._service: int | None = None
        self._exit_code = 0
        self._starts = 0
        self._ends_in_a_row = 0
        self._started_at = 0.0
        self._start_at = 0.0
        self._kill_at: float | None = None
        self._replacing = False
        self._stopping = False

    def run(self) -> int:
        """Blocks until it is told to stop; the exit code is the service's last."""
        # Blocked and waited for: no handler, so nothing can be interrupted or missed.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        # Below an init of the container's own, orphans still come here.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        while True:
            now = time.monotonic()
            if self._service is None:
                if self._stopping or self._is_misconfigured():
                    return self._exit_code
                if now >= self._start_at:
                    self._start(now)
            elif self._kill_at is not None and now >= self._kill_at:
                _say(f"the service did not end within {STOP_SECONDS:g} s and is killed")
                os.kill(self._service, signal.SIGKILL)
                self._kill_at = None
            heard = signal.sigtimedwait(_HEARD, self._patience_seconds(now))
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                self._on_signal(signal.Signals(heard.si_signo))
            self._reap()

    def _start(self, now: float) -> None:
        self._starts += 1
        self._started_at = now
        self._replacing = False
        try:
            # A group of its own: Ctrl-C on a terminal reaches this process alone, which passes it
            # on.
            self._service = os.posix_spawn(
                self._argv[0], self._argv, self._environment, setpgroup=0, setsigmask=()
            )
        except OSError as error:
            # No memory, no process left, an interpreter that is being replaced: the runs go on.
            _say(f"the service cannot be started: {error}")
            self._on_end(EXIT_NOT_STARTED, now)
            return
        _say(f"the service is started, pid {self._service}")

    def _on_signal(self, number: signal.Signals) -> None:
        _say(f"{number.name}: the service is to {'restart' if number == signal.SIGHUP else 'end'}")
        if number == signal.SIGHUP:
            self._replacing = True
        else:
            self._stopping = True
        if self._service is None:
            self._start_at = 0.0
        elif self._kill_at is None:
            os.kill(self._service, signal.SIGTERM)
            self._kill_at = time.monotonic() + STOP_SECONDS

    def _reap(self) -> None:
        """Takes every dead process: the service, and what was left to this one."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._service:
                self._on_end(os.waitstatus_to_exitcode(status), time.monotonic())

    def _on_end(self, code: int, now: float) -> None:
        self._service = None
        self._kill_at = None
        self._exit_code = code if code >= 0 else 128 - code
        if self._replacing or self._stopping:
            self._ends_in_a_row = 0
            self._start_at = now
            return
        if now - self._started_at > SETTLED_SECONDS:
            self._ends_in_a_row = 0
        pause = PAUSES_SECONDS[min(self._ends_in_a_row, len(PAUSES_SECONDS) - 1)]
        self._ends_in_a_row += 1
        self._start_at = now + pause
        _say(f"the service ended ({_how(code)}); again in {pause:g} s, runs go on")

    def _is_misconfigured(self) -> bool:
        """At the very first start there are no runs to keep alive: whoever started us must know."""
        return self._starts == 1 and self._exit_code == EXIT_BAD_CONFIGURATION

    def _patience_seconds(self, now: float) -> float:
        due = self._start_at if self._service is None else self._kill_at
        # Signals end the wait; the bound is only for the case that nothing is due.
        return 3600.0 if due is None else max(0.0, due - now)


def renew_boot_id(environment: MutableMapping[str, str]) -> None:
    """Writes a boot id that was never there before, and tells the service where. Raises OSError."""
    file = Path(environment.setdefault(BOOT_ID_VARIABLE, BOOT_ID_FILE))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{uuid.uuid4()}\n", encoding="ascii")


def main(flags: Sequence[str]) -> int:
    """Runs the service with these flags until SIGTERM or SIGINT."""
    environment = dict(os.environ)
    try:
        renew_boot_id(environment)
    except OSError as error:
        _say(f"the boot id cannot be written: {error}; set {BOOT_ID_VARIABLE}")
        return EXIT_BAD_CONFIGURATION
    return PidOne([sys.executable, "-m", "trainer_svc", *flags], environment).run()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _say(line: str) -> None:
    print(f"pid-one: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
