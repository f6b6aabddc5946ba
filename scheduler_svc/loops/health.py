"""Health: SERVING while the database answers, NOT_SERVING while it does not."""

from collections.abc import Awaitable, Callable

import structlog

from scheduler_svc.hop import Hop
from scheduler_svc.loops.loop import Loop


class HealthLoop:
    """Asks the database once per tick, and says what it found."""

    def __init__(
        self,
        ping: Callable[[], bool],
        hop: Hop,
        set_serving: Callable[[bool], Awaitable[None]],
        tick_seconds: float,
    ) -> None:
        self._ping = ping
        self._hop = hop
        self._set_serving = set_serving
        self._was_serving: bool | None = None
        self.loop = Loop("health", self._round, tick_seconds)

    async def _round(self) -> None:
        serving = await self._hop(self._ping)
        if serving != self._was_serving:
            log = structlog.get_logger()
            if serving:
                log.info("serving")
            else:
                log.error("not serving: the database does not answer")
        self._was_serving = serving
        await self._set_serving(serving)
