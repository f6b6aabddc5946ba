"""Named crash points: where a test may kill or stop a process, and can tell that it was reached.

Inert unless the environment names the point. TUNEWRIGHT_CRASH_POINT: the process
says so on stderr and ends at once by SIGKILL, as a power cut would.
TUNEWRIGHT_STOP_POINT: it says so and stops there by SIGSTOP, as a host that is
suspended would; SIGCONT lets it go on.
"""

from __future__ import annotations

import os
import signal
import sys

VARIABLE = "TUNEWRIGHT_CRASH_POINT"
STOP_VARIABLE = "TUNEWRIGHT_STOP_POINT"


def crash_point(name: str) -> None:
    """Ends or stops the process here if the environment asks for it."""
    if os.environ.get(VARIABLE) == name:
        print(f"crash point reached: {name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get(STOP_VARIABLE) == name:
        print(f"stop point reached: {name}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
