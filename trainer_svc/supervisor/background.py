"""What goes on beside the runs: samples, run timeouts, collection of folders."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime

import structlog
from tunewright.wire.times import seconds_of

from trainer_svc.domain.runs import RunPhase, StopMode
from trainer_svc.supervisor.processes import age_seconds
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.run_folder import STREAM_FILES
from trainer_svc.supervisor.starting import staging_path
from trainer_svc.supervisor.supervisor import Supervisor

_TURN_SECONDS = 0.5
_COLLECT_SECONDS = 3.0


class Background:
    """One loop that looks after all runs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._sampled: dict[Run, float] = {}
        self._collected = 0.0

    async def run(self) -> None:
        """Turns until it is cancelled; an error in one turn is logged, the next comes."""
        while True:
            try:
                await self._turn()
            except Exception:
                structlog.get_logger().exception("background turn failed")
            await asyncio.sleep(_TURN_SECONDS)

    async def _turn(self) -> None:
        now = time.monotonic()
        for run in self._supervisor.active():
            await self._time_out(run)
            await self._sample(run, now)
        if now - self._collected >= _COLLECT_SECONDS:
            self._collected = now
            await self.collect()

    async def _time_out(self, run: Run) -> None:
        """The run's own clock: it also ends in time while the scheduler is away."""
        message = run.folder.spec_message()
        child = run.folder.child() if message.HasField("run_timeout") else None
        if child is not None and age_seconds(child) > seconds_of(message.run_timeout):
            await self._supervisor.stop(run.key, StopMode.TIMEOUT)

    async def _sample(self, run: Run, now: float) -> None:
        settings = self._supervisor.settings
        last = self._sampled.get(run)
        if run.phase is not RunPhase.RUNNING:
            return
        if last is not None and now - last < settings.sample_interval_seconds:
            return
        self._sampled[run] = now
        host = self._supervisor.host
        sample = await asyncio.to_thread(host.sample, run.gpu_ids, settings.workspace)
        if run.holds_slot:
            run.log.sample(sample)

    async def collect(self) -> None:
        """Removes what every reader has stored; small files stay until the retention is over."""
        self._sampled = {run: at for run, at in self._sampled.items() if run.holds_slot}
        for run in self._supervisor.runs():
            if run.final and run.acknowledged and run.fully_read and not run.collected:
                await asyncio.to_thread(self._empty, run)
            elif run.collected and self._is_old(run):
                await asyncio.to_thread(shutil.rmtree, run.folder.path, ignore_errors=True)
                self._supervisor.forget(run.key)

    def _empty(self, run: Run) -> None:
        run.folder.mark(collected=True)
        run.collected = True
        run.folder.remove(*STREAM_FILES.values(), "shim.log")
        staged = staging_path(self._supervisor.settings, run.key)
        shutil.rmtree(staged, ignore_errors=True)

    def _is_old(self, run: Run) -> bool:
        ended = run.folder.end_time()
        if ended is None:
            return False
        age = (datetime.now(UTC) - ended).total_seconds()
        return age > self._supervisor.settings.run_retention_seconds
