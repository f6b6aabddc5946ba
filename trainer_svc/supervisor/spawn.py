"""Starting the shim of a run, in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from trainer_svc.domain.command import MARKER_VARIABLE

# The child has no business with the service's own settings, tokens among them.
_OWN_PREFIX = "TUNEWRIGHT_"


def spawn_shim(run_folder: Path, marker: str) -> subprocess.Popen[bytes]:
    """Starts the shim; it says who it is in process.json. Raises OSError.

    SIGTERM is blocked until the shim listens for it, so a stop that comes in
    between is not lost and does not end the shim alone.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with open(run_folder / "shim.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "trainer_svc.child.shim", str(run_folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=own_environment(os.environ, marker),
                start_new_session=True,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def own_environment(own: Mapping[str, str], marker: str) -> dict[str, str]:
    """The service's environment, less its own settings, with the marker of what is started."""
    kept = {name: value for name, value in own.items() if not name.startswith(_OWN_PREFIX)}
    return {**kept, MARKER_VARIABLE: marker}
