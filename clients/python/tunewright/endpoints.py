"""Which monitor to call: what the scheduler listed, less what did not answer.

Pure bookkeeping for both transports. A client knows the scheduler only.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.errors import Unavailable
from tunewright.wire.reasons import CODES, Reason


class MonitorBook:
    """The monitor in use. Forgotten when it goes away, so that it is looked up again."""

    def __init__(self) -> None:
        self.current: str | None = None
        self._avoided: str | None = None

    def choose(self, listed: Iterable[str]) -> str:
        """Takes one that is listed, rather another than the one that just went away.

        Raises Unavailable with reason NO_MONITOR if none is listed.
        """
        addresses = list(listed)
        if not addresses:
            raise Unavailable(
                "the scheduler knows of no monitor",
                reason=Reason.NO_MONITOR,
                code=CODES[Reason.NO_MONITOR],
            )
        others = [address for address in addresses if address != self._avoided]
        self.current = (others or addresses)[0]
        return self.current

    def went_away(self, address: str) -> None:
        """It did not answer: look up again, and prefer another."""
        self._avoided = address
        if self.current == address:
            self.current = None
