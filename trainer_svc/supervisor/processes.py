"""Processes as the kernel knows them: identity, end, signals that cannot hit a stranger.

Refuses to signal what it cannot match: a pid alone names nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
# One for the process, as the boot itself is; set once, by the wiring.
_boot_id_file = BOOT_ID_FILE
_WITHOUT_DESCRIPTOR_SECONDS = 0.5
CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Identity:
    """A process for good: its number, its start (clock ticks since boot), the boot."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of_json(cls, value: Mapping[str, Any] | None) -> Identity | None:
        """As process.json holds it; None if it is absent or broken."""
        try:
            return (
                cls(int(value["pid"]), int(value["start_ticks"]), str(value["boot_id"]))
                if value
                else None
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Stat:
    """Of /proc/<pid>/stat: what is needed to find a tree."""

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int


def use_boot_id_file(file: Path) -> None:
    """Reads the boot's id from here: a container may see its host's kernel, and yet be
    restarted as a host is."""
    global _boot_id_file
    _boot_id_file = file


def boot_id_file() -> Path:
    """Where the boot's id is read; a shim must read the same."""
    return _boot_id_file


def boot_id() -> str:
    """The id of this boot."""
    return _boot_id_file.read_text(encoding="ascii").strip()


def stat_of(pid: int) -> Stat | None:
    """The process's line; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name may hold spaces and parentheses: count from the last one.
        fields = text.rpartition(")")[2].split()
        return Stat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def is_alive(identity: Identity) -> bool:
    """True if this very process exists and is not a zombie."""
    if identity.boot_id != boot_id():
        return False
    stat = stat_of(identity.pid)
    return stat is not None and stat.start_ticks == identity.start_ticks and stat.state != "Z"


def age_seconds(identity: Identity) -> float:
    """How long the process has been running, by the clock that no one can set."""
    since_boot = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return since_boot - identity.start_ticks / CLOCK_TICKS_PER_SECOND


def send_signal(identity: Identity, number: signal.Signals) -> bool:
    """Signals this very process; False if it is not there any more.

    The descriptor is opened before the identity is checked, so the number
    cannot pass to another process in between.
    """
    try:
        fd = os.pidfd_open(identity.pid)
    except OSError:
        return False
    try:
        if not is_alive(identity):
            return False
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


async def wait_gone(identity: Identity) -> None:
    """Returns once this very process has ended; it need not be our child."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    except OSError:  # out of descriptors: the caller asks again
        await asyncio.sleep(_WITHOUT_DESCRIPTOR_SECONDS)
        return
    loop = asyncio.get_running_loop()
    try:
        if not is_alive(identity):
            return
        ended = loop.create_future()

        def on_end() -> None:
            if not ended.done():
                ended.set_result(None)

        loop.add_reader(fd, on_end)
        try:
            await ended
        finally:
            loop.remove_reader(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
