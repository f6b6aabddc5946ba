"""Stopping a run: by its shim within the grace, else its whole tree by force."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import structlog

from trainer_svc.domain.runs import StopMode
from trainer_svc.supervisor.life import RunLife
from trainer_svc.supervisor.processes import is_alive, send_signal
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.run_folder import StopRecord
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.starting import checkpoints_path
from trainer_svc.supervisor.trees import end_tree

_POLL_SECONDS = 0.05
# The same bounds as in the shim, which imports nothing.
CHECKPOINT_EXTRA_SECONDS_MAX = 300.0
_CHECKPOINT_IDLE_SECONDS = 10.0


def request_stop(run: Run, stop: StopRecord) -> bool:
    """Writes stop.json, unless a stop as strong is there already; True if it was written."""
    before = run.folder.stop()
    if before is not None and before.mode.rank >= stop.mode.rank:
        return False
    run.folder.write_stop(stop)
    return True


async def carry_out_stop(run: Run, life: RunLife, settings: Settings) -> None:
    """Asks the shim to stop what stop.json says, waits with a bound, then ends the tree.

    Returns once the tree is gone or could not be ended within a minute.
    """
    stop = run.folder.stop()
    if stop is None:
        return
    await _until_shim_listens(run)
    shim = run.folder.shim()
    if shim is not None and run.folder.lock_is_held():
        send_signal(shim, signal.SIGTERM)
    if await _gone_in_time(run, stop, settings):
        return
    structlog.get_logger().warning("stop by force", run=str(run.key), mode=str(stop.mode))
    if not await asyncio.to_thread(end_tree, life.signs(run)):
        structlog.get_logger().error("a process cannot be ended", run=str(run.key))


async def _until_shim_listens(run: Run) -> None:
    """The signal is blocked until the shim listens; only its number must be known."""
    while run.holds_slot and run.life is not None and not run.life.done():
        if run.folder.shim() is not None:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _gone_in_time(run: Run, stop: StopRecord, settings: Settings) -> bool:
    begin = time.monotonic()
    bound = stop.grace_seconds + settings.stop_margin_seconds
    saves = stop.mode in (StopMode.PAUSE, StopMode.TIMEOUT)
    latest = bound + (CHECKPOINT_EXTRA_SECONDS_MAX if saves else 0.0)
    while run.holds_slot:
        waited = time.monotonic() - begin
        grows = saves and checkpoint_grows(checkpoints_path(settings, run.key))
        if waited > latest or (waited > bound and not grows):
            return False
        shim = run.folder.shim()
        if shim is None or not is_alive(shim):
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return True


def checkpoint_grows(folder: Path) -> bool:
    """True if a checkpoint is being written aside right now."""
    newest = 0.0
    with contextlib.suppress(OSError):
        for aside in folder.glob(".tmp-*"):
            for file in (aside, *aside.rglob("*")):
                newest = max(newest, file.stat().st_mtime)
    return time.time() - newest < _CHECKPOINT_IDLE_SECONDS
