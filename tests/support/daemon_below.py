"""Leaves a process behind that nothing but its ancestry ties to the run.

It has a session of its own, an empty environment and no inherited descriptor,
its parent is gone, and it ignores SIGTERM.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

DAEMON = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
)
PARENT = """
import subprocess, sys
daemon = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True, env={}
)
daemon.stdout.readline()
print(daemon.pid)
"""


def main(_run_folder: Path, _spec: Any, pid_file: str) -> None:
    """Writes the pid once the process ignores SIGTERM and its parent is gone."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT, DAEMON], stdout=subprocess.PIPE, text=True, check=True
    )
    aside = Path(f"{pid_file}.aside")
    aside.write_text(done.stdout.strip())
    aside.rename(pid_file)
