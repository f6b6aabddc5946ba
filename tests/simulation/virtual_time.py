"""Virtual time: one heap of what will happen, and an event loop for each simulated process.

Production coroutines run on `Process` as they would on asyncio's own loop. A
process can be killed (nothing of it runs again, and what it would still do on
its way out reaches nobody), stopped and continued. Nothing here sleeps, and no
thread is started: what would run on one runs in its turn, after a delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
from asyncio import events as asyncio_events
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import grpc

START_SECONDS = 1_000.0
_KILL_ROUNDS_MAX = 8
_KILL_STEPS_MAX = 2_000


class ProcessKilled(BaseException):
    """The process ends here, at once; nothing may catch it."""


class Handle:
    """A callback that may be cancelled."""

    __slots__ = ("_args", "_callback", "_context", "_is_cancelled", "when_seconds")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when_seconds: float = 0.0,
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._is_cancelled = False
        self.when_seconds = when_seconds

    def cancel(self) -> None:
        """It will not run."""
        self._is_cancelled = True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._is_cancelled

    def when(self) -> float:
        """As of asyncio.TimerHandle."""
        return self.when_seconds

    def run(self) -> None:
        """Runs it, unless it was cancelled."""
        if self._is_cancelled:
            return
        if self._context is None:
            self._callback(*self._args)
        else:
            self._context.run(self._callback, *self._args)


class World:
    """The clock, the heap, and the one source of chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = START_SECONDS
        self.problems: list[str] = []
        """What production code did that it never may: unhandled errors, dead loops."""
        self._ready: deque[tuple[Process, Handle]] = deque()
        self._heap: list[tuple[float, int, Process, Handle]] = []
        self._count = 0
        self._running: Process | None = None

    def soon(self, process: Process, handle: Handle) -> None:
        """Runs after what is ready now."""
        self._ready.append((process, handle))

    def take_ready(self, process: Process) -> list[Handle]:
        """Takes back what a process that is killed was about to run."""
        taken = [handle for owner, handle in self._ready if owner is process]
        self._ready = deque(one for one in self._ready if one[0] is not process)
        return taken

    def at(self, process: Process, handle: Handle) -> None:
        """Runs at its time."""
        self._count += 1
        heapq.heappush(self._heap, (handle.when_seconds, self._count, process, handle))

    def run_as(self, process: Process | None) -> Process | None:
        """Makes a process asyncio's running loop; answers with the one before."""
        before = self._running
        if before is not process:
            asyncio_events._set_running_loop(process)
            self._running = process
        return before

    def run_until(self, end_seconds: float) -> None:
        """Lets everything happen that happens until then."""
        try:
            self._run_until(end_seconds)
        finally:
            self.run_as(None)

    def _run_until(self, end_seconds: float) -> None:
        while True:
            while self._ready:
                process, handle = self._ready.popleft()
                process.execute(handle)
            if not self._heap or self._heap[0][0] > end_seconds:
                self.now = end_seconds
                return
            when, _, process, handle = heapq.heappop(self._heap)
            if not handle.cancelled():
                self.now = max(self.now, when)
                process.execute(handle)

    def problem(self, text: str) -> None:
        """Notes what must not happen whatever the schedule is."""
        self.problems.append(text)


class Process(asyncio.AbstractEventLoop):
    """One simulated process: an event loop on virtual time.

    `os_calls` says what is done in place of functions that are handed to a
    thread: the simulated operating system. `before_hop` may kill or delay.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.doomed = False
        self.os_calls: Mapping[Callable[..., Any], Callable[..., Any]] = {}
        self.hop_delay: Callable[[], float] = lambda: 0.0
        self.hazard: Callable[[str], None] = lambda _point: None
        """Asked before and after each hop to a thread; may end the process there."""
        self.on_death: Callable[[], None] = lambda: None
        self._backlog: list[Handle] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._last_words: deque[Handle] = deque()

    # --- what may happen to a process

    def doom(self) -> None:
        """It is killed as soon as the running callback has unwound."""
        self.doomed = True

    def die(self) -> None:
        """From within: nothing after this line is done."""
        self.doomed = True
        raise ProcessKilled(self.name)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: everything that was due meanwhile is done now."""
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for handle in backlog:
            self.world.soon(self, handle)

    def kill(self) -> None:
        """SIGKILL. Coroutines are unwound so that none is left half way; nobody sees it."""
        if not self.alive:
            return
        self.alive = False
        # What was due unwinds, too.
        self._last_words.extend(self.world.take_ready(self))
        self._last_words.extend(self._backlog)
        self._backlog.clear()
        for _ in range(_KILL_ROUNDS_MAX):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            self._unwind()
        self._tasks.clear()
        self.on_death()

    def _unwind(self) -> None:
        previous = self.world.run_as(self)
        for _ in range(_KILL_STEPS_MAX):
            if not self._last_words:
                break
            self._last_words.popleft().run()
        self.world.run_as(previous)

    def execute(self, handle: Handle) -> None:
        """Runs a callback that is due, if the process lives."""
        if not self.alive:
            return
        if self.frozen:
            self._backlog.append(handle)
            return
        self.world.run_as(self)
        with contextlib.suppress(ProcessKilled):
            handle.run()
        if self.doomed:
            self.kill()

    # --- asyncio's side

    def time(self) -> float:
        """Monotonic, virtual seconds."""
        return self.world.now

    def call_soon(  # type: ignore[override] # a handle of our own does
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """After what is ready now."""
        handle = Handle(callback, args, context)
        if self.alive:
            self.world.soon(self, handle)
        else:
            self._last_words.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment] # there are no threads

    def call_later(  # type: ignore[override] # a handle of our own does
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """After a while; production's own jitter is drawn anew, from the seed."""
        if delay > 0.0 and abs(delay * 1000.0 - round(delay * 1000.0)) > 1e-6:
            delay = self._jitter(delay)
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def after(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """The same for the simulation's own use."""
        self.call_at(self.world.now + delay, callback, *args)

    def _jitter(self, delay: float) -> float:
        """Production backs off from 0.25 s by doubling, each wait 50 to 100 % of a bound,
        and draws from a generator that nobody can seed; a delay says which bound it was."""
        for bound in (0.5, 1.0, 2.0, 4.0):
            if delay <= bound:
                return self.world.rng.uniform(bound / 2, bound)
        return self.world.rng.uniform(4.0, 10.0)

    def call_at(  # type: ignore[override] # a handle of our own does
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        """At a time."""
        handle = Handle(callback, args, context, when)
        if self.alive:
            self.world.at(self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """As usual."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **_more: Any,
    ) -> asyncio.Task[Any]:
        """As usual; the process remembers it until it is killed."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        # A killed process leaves tasks behind that nobody waits for.
        vars_of: Any = task
        vars_of._log_destroy_pending = False
        if len(self._tasks) > 256:
            self._tasks = [one for one in self._tasks if not one.done()]
        self._tasks.append(task)
        return task

    def run_in_executor(  # type: ignore[override] # what it returns is not looked into
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """A hop to a thread: runs in its turn, or what `os_calls` has in its place."""
        done = self.create_future()
        called = partial(func, *args)
        if isinstance(func, partial) and func.args:
            # asyncio.to_thread hands over partial(context.run, function, *args).
            replaced = self.os_calls.get(func.args[0])
            if replaced is not None:
                called = partial(replaced, *func.args[1:], **func.keywords)
        if self.alive:
            self.after(self.hop_delay(), self._run_hop, done, called)
        return done

    def _run_hop(self, done: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        if done.cancelled():
            return
        self.hazard("before a hop")
        try:
            result = function()
        except Exception as error:
            if not done.done():
                done.set_exception(error)
            return
        self.hazard("after a hop")
        if not done.done():
            done.set_result(result)

    def call_exception_handler(self, context: Any) -> None:
        """An error that nobody took."""
        error = context.get("exception")
        if self.alive and not isinstance(error, ProcessKilled | grpc.RpcError):
            self.world.problem(f"{self.name}: {context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always."""
        return True

    def is_closed(self) -> bool:
        """Never."""
        return False

    # --- for the simulation

    def spawn(self, coro: Coroutine[Any, Any, Any], name: str = "") -> None:
        """Begins a coroutine of this process; its end by an error is a problem."""
        if not self.alive:
            coro.close()
            return
        task = self.create_task(coro, name=name or None)
        task.add_done_callback(self._look)

    def _look(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, ProcessKilled) and self.alive:
            self.world.problem(f"{self.name}: {task.get_name()} ended: {error!r}")
