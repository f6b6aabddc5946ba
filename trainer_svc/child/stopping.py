"""Stop requests: SIGTERM, with the why in the run folder's stop.json.

Owns the process's SIGTERM. PAUSE and TIMEOUT let a step and a result that are
under way finish; before the first step there is nothing to save, so there they
stop at once, as CANCEL and FENCE do everywhere. A SIGTERM without a readable
stop.json is taken as PAUSE, the one that loses nothing.
"""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType


class StopMode(StrEnum):
    """As in stop.json."""

    PAUSE = "PAUSE"
    TIMEOUT = "TIMEOUT"
    CANCEL = "CANCEL"
    FENCE = "FENCE"

    @property
    def at_once(self) -> bool:
        """Whether nothing is to be saved first."""
        return self in (StopMode.CANCEL, StopMode.FENCE)


class StopNow(BaseException):
    """Unwinds the run. Not an Exception: no library may swallow it."""

    def __init__(self, mode: StopMode) -> None:
        super().__init__(mode.value)
        self.mode = mode


# Shorter than the shortest grace (FENCE: 5 s), so that the result is still written.
OVERDUE_SECONDS = 3.0


class StopRequests:
    """Receives SIGTERM for the run in this process."""

    def __init__(self, run_folder: Path, on_overdue: Callable[[StopMode], None]) -> None:
        """`on_overdue` is called in a thread when StopNow did not get through in time, for
        instance because a library is deep in native code; it must end the process."""
        self._stop_file = run_folder / "stop.json"
        self._on_overdue = on_overdue
        self._owner = os.getpid()
        self._finish_steps = False
        self._closed = False
        self._overdue: threading.Timer | None = None
        self.mode: StopMode | None = None

    def install(self) -> None:
        """Takes over SIGTERM; only in the main thread."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        os.register_at_fork(after_in_child=self._in_forked_child)

    @contextmanager
    def finishing_steps(self) -> Iterator[None]:
        """Inside, PAUSE and TIMEOUT only set `mode`; the loop looks at it after each step."""
        if self.mode is not None:
            raise StopNow(self.mode)
        self._finish_steps = True
        try:
            yield
        finally:
            self._finish_steps = False

    def close(self) -> None:
        """From now on SIGTERM changes nothing: the outcome is settled."""
        self._closed = True
        if self._overdue is not None:
            self._overdue.cancel()

    def _on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            os._exit(128 + signal.SIGTERM)  # a forked worker; its parent has the request
        if self._closed:
            return
        self.mode = self._read_mode()
        if self.mode.at_once:
            self._watch_overdue(self.mode)
        if self.mode.at_once or not self._finish_steps:
            raise StopNow(self.mode)

    def _read_mode(self) -> StopMode:
        try:
            return StopMode(json.loads(self._stop_file.read_bytes())["mode"])
        except (OSError, ValueError, KeyError, TypeError):
            return StopMode.PAUSE

    def _watch_overdue(self, mode: StopMode) -> None:
        if self._overdue is None:
            self._overdue = threading.Timer(OVERDUE_SECONDS, self._on_overdue, args=(mode,))
            self._overdue.daemon = True
            self._overdue.start()

    def _in_forked_child(self) -> None:
        # The group gets SIGTERM too. While steps are being finished the workers that load
        # batches must live on, and torch's own handler would end them: block it for good.
        if self._finish_steps:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
