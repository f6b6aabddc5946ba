"""Says within this process that something was committed.

Wakes whoever waits for events; carries nothing, so that who is late reads the
same from the store. Another process's commits are found by a slow poll.
"""

import asyncio
from collections.abc import Callable


class Changes:
    """One announcement wakes everybody who waits, and calls everybody who listens."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` at each announcement."""
        self._listeners.append(listener)

    def announce(self) -> None:
        """Something was committed. From the event loop's thread only."""
        self._event.set()
        self._event = asyncio.Event()
        for listener in self._listeners:
            listener()

    def next(self) -> asyncio.Event:
        """Set by the next announcement. Take it before reading, so that none is missed."""
        return self._event
