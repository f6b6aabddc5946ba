"""Named crash points: where a test may kill a process, and can tell that it was reached.

Inert unless TUNEWRIGHT_CRASH_POINT names the point. Then the process says so
on stderr and ends at once by SIGKILL, as a power cut would.
"""

from __future__ import annotations

import os
import signal
import sys

VARIABLE = "TUNEWRIGHT_CRASH_POINT"


def crash_point(name: str) -> None:
    """Ends the process here if the environment asks for it."""
    if os.environ.get(VARIABLE) == name:
        print(f"crash point reached: {name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
