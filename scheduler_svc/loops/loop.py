"""One Start/Stop contract for everything that the scheduler does by itself.

A loop runs its step when it is woken, and at least once per tick, so that a
lost wake-up costs a tick and nothing else. Wakes that come while the step runs
make it run once more. It refuses to end because of an error: it says it, and
the next tick tries again.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from svckit.refusal import Refusal

_REST_PER_WORK = 3.0


class Loop:
    """Runs `step` until it is stopped. Start and stop are safe to call twice.

    `pause_seconds` is the least time between two runs, and a step that takes long
    is followed by a pause of three times as long: what wakes a loop a thousand
    times a second must not make it take more than a quarter of a core.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[None]],
        tick_seconds: float,
        pause_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self._step = step
        self._tick_seconds = tick_seconds
        self._pause_seconds = pause_seconds
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complaint: str | None = None

    def wake(self) -> None:
        """Runs the step soon. From the event loop's thread only."""
        self._woken.set()

    async def start(self) -> None:
        """Begins with a first run at once."""
        if self._task is None:
            self._stopping.clear()
            self._task = asyncio.create_task(self._run(), name=f"loop {self.name}")

    async def stop(self) -> None:
        """Lets a step that runs come to its end, and returns then."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping.set()
            self._woken.set()
            await task

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            self._woken.clear()
            began = clock()
            await self._step_safely()
            pause = max(self._pause_seconds, _REST_PER_WORK * (clock() - began))
            await _wait(self._stopping, min(pause, self._tick_seconds))
            await _wait(self._woken, self._tick_seconds)

    async def _step_safely(self) -> None:
        """An error that lasts is said once, not once per tick."""
        log = structlog.get_logger().bind(loop=self.name)
        try:
            await self._step()
        except Refusal as refusal:
            if self._complaint != refusal.message:
                log.warning("loop held up", reason=str(refusal.reason), why=refusal.message)
            self._complaint = refusal.message
        except Exception as error:
            if self._complaint != repr(error):
                log.error("loop step failed", exc_info=error)
            self._complaint = repr(error)
        else:
            if self._complaint is not None:
                log.info("loop goes on")
            self._complaint = None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, `seconds` at most."""
    if seconds <= 0 or event.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
