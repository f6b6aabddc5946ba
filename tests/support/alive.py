"""Whether a process lives."""

from __future__ import annotations

import psutil


def is_running(pid: int) -> bool:
    """True for a living process; a zombie is none."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
