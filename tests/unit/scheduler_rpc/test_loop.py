"""The Start/Stop contract of everything that the scheduler does by itself."""

import asyncio

from scheduler_svc.loops.loop import Loop
from svckit.refusal import DatabaseBusy
from tests.support.eventually import eventually


class Step:
    """Counts its runs; fails as it is told."""

    def __init__(self) -> None:
        self.runs = 0
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def __call__(self) -> None:
        self.runs += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error


async def test_a_loop_begins_at_once_and_runs_again_when_woken():
    step = Step()
    loop = Loop("test", step, tick_seconds=3600)

    await loop.start()
    await eventually(lambda: step.runs == 1)
    loop.wake()
    await eventually(lambda: step.runs == 2)
    await loop.stop()

    assert step.runs == 2


async def test_a_tick_runs_what_nobody_woke():
    step = Step()
    loop = Loop("test", step, tick_seconds=0.01)

    await loop.start()

    await eventually(lambda: step.runs >= 3)
    await loop.stop()


async def test_wakes_during_a_run_make_one_more_run():
    step = Step()
    step.hold = asyncio.Event()
    loop = Loop("test", step, tick_seconds=3600)
    await loop.start()
    await eventually(lambda: step.runs == 1)

    for _ in range(5):
        loop.wake()
    step.hold.set()
    await eventually(lambda: step.runs == 2)
    await loop.stop()

    assert step.runs == 2


async def test_start_and_stop_are_safe_to_call_twice():
    step = Step()
    loop = Loop("test", step, tick_seconds=3600)

    await loop.stop()
    await loop.start()
    await loop.start()
    await eventually(lambda: step.runs == 1)
    await loop.stop()
    await loop.stop()
    await loop.start()
    await eventually(lambda: step.runs == 2)
    await loop.stop()

    assert step.runs == 2


async def test_stop_lets_a_step_come_to_its_end():
    step = Step()
    step.hold = asyncio.Event()
    loop = Loop("test", step, tick_seconds=3600)
    await loop.start()
    await eventually(lambda: step.runs == 1)

    stopping = asyncio.create_task(loop.stop())
    await asyncio.sleep(0)
    was_waiting = not stopping.done()
    step.hold.set()
    await stopping

    assert was_waiting


async def test_an_error_is_said_once_and_ends_nothing(capsys):
    step = Step()
    step.error = DatabaseBusy("the database is locked")
    loop = Loop("test", step, tick_seconds=0.01)

    await loop.start()
    await eventually(lambda: step.runs >= 3)
    step.error = None
    runs = step.runs
    await eventually(lambda: step.runs >= runs + 2)
    await loop.stop()

    output = capsys.readouterr()
    said = output.out + output.err
    assert said.count("the database is locked") == 1
    assert said.count("loop goes on") == 1


async def test_a_step_that_takes_long_is_followed_by_a_longer_rest():
    step = Step()
    clock = asyncio.get_running_loop().time
    ends: list[float] = []

    async def slow() -> None:
        await step()
        await asyncio.sleep(0.05)
        ends.append(clock())
        loop.wake()

    starts: list[float] = []

    async def timed() -> None:
        starts.append(clock())
        await slow()

    loop = Loop("test", timed, tick_seconds=3600)
    await loop.start()
    await eventually(lambda: len(starts) >= 2)
    await loop.stop()

    assert starts[1] - ends[0] >= 0.05
