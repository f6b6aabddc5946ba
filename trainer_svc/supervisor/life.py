"""The life of one run, from the shim's spawn, or its adoption, to the recorded end.

Nothing here depends on the shim being our child: an adopted one is watched in
the same way.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import subprocess
import time
from collections.abc import Callable

import structlog

from svckit.crash import crash_point
from trainer_svc.domain.classify import EndFacts, classify
from trainer_svc.domain.command import run_marker
from trainer_svc.domain.failure_messages import HINTS
from trainer_svc.domain.runs import Cause, Ending, Failure, RunOutcome, RunPhase
from trainer_svc.supervisor import service_log
from trainer_svc.supervisor.gpus import GpuInventory
from trainer_svc.supervisor.output_root import OutputInvalid
from trainer_svc.supervisor.processes import Identity, boot_id, is_alive, stat_of, wait_gone
from trainer_svc.supervisor.publication import Publication, StagedResultInvalid, verify_staged
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.spawn import spawn_shim
from trainer_svc.supervisor.starting import staging_path
from trainer_svc.supervisor.trees import TreeSigns, end_tree

_POLL_SECONDS = 0.05
# From the spawn to process.json; a loaded host starts Python slowly.
_SHIM_START_SECONDS_MAX = 60.0
_GPU_SETTLE_SECONDS_MAX = 10.0


class RunLife:
    """Watches runs to their end. `changed` is called after each move."""

    def __init__(
        self,
        settings: Settings,
        workspace_uuid: str,
        gpus: GpuInventory,
        changed: Callable[[Run], None],
    ) -> None:
        self._settings = settings
        self._uuid = workspace_uuid
        self._gpus = gpus
        self._changed = changed

    def signs(self, run: Run) -> TreeSigns:
        """How the run's processes are recognised."""
        marker = run_marker(self._uuid, run.key.job_id, run.key.attempt)
        return TreeSigns(marker, run.folder.lock_file, run.folder.shim())

    async def spawn_and_watch(self, run: Run) -> None:
        """Starts the shim and stays with the run until its end is recorded."""
        try:
            marker = run_marker(self._uuid, run.key.job_id, run.key.attempt)
            process = await asyncio.to_thread(spawn_shim, run.folder.path, marker)
        except OSError as error:
            cause = Cause.ENVIRONMENT_INVALID
            message = f"the shim cannot be started: {error}"
            await self.finish(run, Ending.failed(Failure(cause, message, HINTS[cause])))
            return
        crash_point("shim_spawned")
        await self._until_started(run, process)
        await self.watch(run)
        await asyncio.to_thread(process.wait)

    async def watch(self, run: Run) -> None:
        """Stays with a run that was spawned, by whomever, until its end is recorded."""
        await self._until_gone(run)
        if run.folder.exit() is None:
            # Asked before the tree is ended: what lives now says whether the shim was alone.
            await asyncio.to_thread(end_tree, self.signs(run))
        await self._gpus_settled(run)
        ending = await asyncio.to_thread(self._classified, run)
        await self.finish(run, ending)

    async def finish(self, run: Run, ending: Ending) -> None:
        """Records the end of a run whose processes are gone."""
        if ending.failure is not None:
            log_failure(run, ending.failure)
        if ending.outcome is not RunOutcome.COMPLETED and not run.fenced:
            staged = staging_path(self._settings, run.key)
            await asyncio.to_thread(shutil.rmtree, staged, ignore_errors=True)
        run.end(ending, run.folder.exit_time())
        structlog.get_logger().info("run ended", run=str(run.key), outcome=ending.outcome.name)
        self._changed(run)

    async def _until_started(self, run: Run, process: subprocess.Popen[bytes]) -> None:
        """Returns once the shim has said who it is, or is gone."""
        deadline = time.monotonic() + _SHIM_START_SECONDS_MAX
        while run.folder.shim() is None and process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(_POLL_SECONDS)

    async def _until_gone(self, run: Run) -> None:
        """Returns once exit.json is there and the shim is gone, or the shim is gone without one."""
        while True:
            shim = run.folder.shim()
            if shim is not None and is_alive(shim):
                await self._note_running(run, shim)
                await wait_gone(shim)
            elif run.folder.exit() is None and shim is None and run.folder.lock_is_held():
                # A shim that has the lock, and has not yet said who it is.
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    async def _note_running(self, run: Run, shim: Identity) -> None:
        while run.phase is RunPhase.PREPARING and is_alive(shim):
            if run.folder.child() is not None:
                run.phase = RunPhase.RUNNING
                self._changed(run)
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _gpus_settled(self, run: Run) -> None:
        """Waits, with a bound, until the driver has let go of processes that are gone."""
        if not run.gpu_ids:
            return
        deadline = time.monotonic() + _GPU_SETTLE_SECONDS_MAX
        while time.monotonic() < deadline:
            readings = await asyncio.to_thread(self._gpus.read)
            held = (one.pids for one in readings if one.gpu_id in run.gpu_ids)
            if all(stat_of(pid) is not None for pids in held for pid in pids):
                return
            await asyncio.sleep(0.2)

    def _classified(self, run: Run) -> Ending:
        folder = run.folder
        stop = folder.stop()
        facts = EndFacts(
            exit=folder.exit(),
            result=folder.result(),
            stop=stop.mode if stop else None,
            tail=folder.tail(),
            lost=_why_lost(folder.shim()),
        )
        ending = classify(facts)
        return self._verified(run) if ending.outcome is RunOutcome.COMPLETED else ending

    def _verified(self, run: Run) -> Ending:
        try:
            verify_staged(publication_of(self._settings, run))
        except (StagedResultInvalid, OutputInvalid) as error:
            return Ending.failed(publication_failure(error))
        except OSError as error:
            return Ending.failed(publication_failure(error))
        return Ending(RunOutcome.COMPLETED)


def publication_of(settings: Settings, run: Run) -> Publication:
    """What is to be put where, as the run's folder says."""
    output_dir = run.folder.spec_message().output_dir
    return Publication(run.key, settings.outputs, output_dir, run.folder.manifest_digest())


def publication_failure(error: Exception) -> Failure:
    """Why a result could not be published."""
    cause = Cause.INTERNAL
    if isinstance(error, OutputInvalid):
        cause = Cause.OUTPUT_INVALID
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause = Cause.DISK_FULL
    return Failure(cause, str(error), HINTS[cause], type(error).__name__)


def log_failure(run: Run, failure: Failure) -> None:
    """Says in the run's own feed why it failed; once, also over a restart."""
    details = {"cause": str(failure.cause), "hint": failure.hint}
    if failure.exception_type:
        details["exception_type"] = failure.exception_type
    run.log.event_once(service_log.ERROR, "RUN_FAILED", failure.message, details)


def _why_lost(shim: Identity | None) -> str:
    """Why nobody can tell what became of a shim that left no exit.json; "" if it just died."""
    if shim is None:
        return ""
    if shim.boot_id != boot_id():
        return "the host was restarted while it ran"
    stat = stat_of(shim.pid)
    if stat is not None and stat.start_ticks != shim.start_ticks:
        return f"its shim is gone, and process {shim.pid} is another one now"
    return ""
