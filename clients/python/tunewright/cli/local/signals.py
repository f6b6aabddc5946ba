"""Signals that ask a command to stop, as an event that its waits look at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopping_signals() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C, SIGTERM and a closed terminal; main thread only."""
    asked = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, on_signal) for number in _STOPPING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
