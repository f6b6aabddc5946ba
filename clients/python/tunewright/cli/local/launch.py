"""Becomes a service that ends when its parent dies, however that happens.

Run as `python -m tunewright.cli.local.launch PARENT_PID MODULE ARGUMENT...`. Without it,
services of an `up` that was killed would live on and hold their ports. Runs
of a trainer do not notice: their shims are in sessions of their own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, module_and_arguments: list[str]) -> None:
    """Asks for SIGTERM at the parent's death (Linux), then becomes the service."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", *module_and_arguments])  # noqa: S606 # no shell is what we want


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
