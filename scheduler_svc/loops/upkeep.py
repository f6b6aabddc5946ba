"""Upkeep: what time does. Lost hosts, due retries, run timeouts, storing, removing."""

from collections.abc import Callable

import structlog
from tunewright.wire.names import job_name, trainer_name

from scheduler_svc.application.upkeep import Upkeep, UpkeepResult
from scheduler_svc.domain.job import JobId
from scheduler_svc.hop import Hop
from scheduler_svc.loops.loop import Loop


class UpkeepLoop:
    """A round per tick. `moved` hears of each that changed a record, `stopping` of timeouts."""

    def __init__(
        self,
        upkeep: Upkeep,
        hop: Hop,
        moved: Callable[[], None],
        stopping: Callable[[JobId], None],
        tick_seconds: float,
    ) -> None:
        self._upkeep = upkeep
        self._hop = hop
        self._moved = moved
        self._stopping = stopping
        self._silence_said = False
        self.loop = Loop("upkeep", self._round, tick_seconds)

    async def _round(self) -> None:
        result = await self._hop(self._upkeep.run)
        self._say(result)
        for key in result.timed_out:
            self._stopping(key.job_id)
        if result.lost or result.requeued or result.timed_out or result.removed:
            self._moved()

    def _say(self, result: UpkeepResult) -> None:
        log = structlog.get_logger()
        for trainer_id in result.lost:
            log.warning("trainer lost", trainer=trainer_name(trainer_id))
        for key in result.timed_out:
            log.warning("run_timeout has passed", job=job_name(key.job_id), attempt=key.attempt)
        if result.mass_silence and not self._silence_said:
            log.error("most trainers are silent: none is given up; look at the network")
        self._silence_said = result.mass_silence
