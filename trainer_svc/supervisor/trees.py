"""Finding and ending the process tree of a run whose shim cannot do it.

A process belongs to a run if its environment carries the run's marker, if it
holds the run folder's lock, if it is the shim, or if it descends from one of
these or sits in a session that one of them leads. Nothing else is signalled.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from trainer_svc.domain.command import MARKER_VARIABLE
from trainer_svc.supervisor.processes import Identity, Stat, boot_id, is_alive, send_signal, stat_of

_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class TreeSigns:
    """How a run's processes are recognised."""

    marker: str
    lock_file: Path
    shim: Identity | None


def find_tree(signs: TreeSigns) -> dict[int, Stat]:
    """The run's living processes by number, the shim included."""
    everything = _living()
    seeds = {pid for pid in everything if _is_marked(pid, signs.marker)}
    seeds |= _lock_holders(everything, signs.lock_file)
    if signs.shim is not None and is_alive(signs.shim):
        seeds.add(signs.shim.pid)
    seeds -= _ourselves()
    if not seeds:
        return {}
    leaders = set(seeds)
    if signs.shim is not None and signs.shim.boot_id == boot_id():
        # A session's number is not given away while the session has members.
        leaders |= {everything[pid].session for pid in seeds} & {signs.shim.pid}
    return {pid: everything[pid] for pid in _closure(seeds, leaders, everything) - _ourselves()}


def end_tree(signs: TreeSigns, timeout_seconds: float = 60.0) -> bool:
    """Kills the tree until nothing of it is left; False if the time was not enough."""
    boot = boot_id()
    deadline = time.monotonic() + timeout_seconds
    while tree := find_tree(signs):
        if time.monotonic() > deadline:
            return False
        for stat in tree.values():
            send_signal(Identity(stat.pid, stat.start_ticks, boot), signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
    return True


def _living() -> dict[int, Stat]:
    found: dict[int, Stat] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            stat = stat_of(int(name))
            if stat is not None and stat.state not in ("Z", "X"):
                found[stat.pid] = stat
    return found


def _is_marked(pid: int, marker: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or somebody else's
        return False
    return f"{MARKER_VARIABLE}={marker}".encode() in environment


def _lock_holders(pids: dict[int, Stat], lock_file: Path) -> set[int]:
    try:
        wanted = lock_file.stat()
    except OSError:
        return set()
    return {pid for pid in pids if _has_open(pid, (wanted.st_dev, wanted.st_ino))}


def _has_open(pid: int, wanted: tuple[int, int]) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            found = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == wanted:
            return True
    return False


def _closure(seeds: set[int], leaders: set[int], everything: dict[int, Stat]) -> set[int]:
    """The seeds, all that descend from them, and the sessions that they lead."""
    found = set(seeds)
    while True:
        more = {
            pid
            for pid, stat in everything.items()
            if pid not in found and (stat.parent in found or stat.session in leaders)
        }
        if not more:
            return found
        found |= more


def _ourselves() -> set[int]:
    """This process and all above it: never part of a run."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = stat_of(pid)
        pid = stat.parent if stat else 0
    return found
