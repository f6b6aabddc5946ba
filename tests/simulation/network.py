"""The simulated network: requests and answers that are lost, late, doubled, overtaken or cut off.

Owns the links between nodes and who listens where. Messages are real protos,
serialised and parsed on the way; a refusal travels as the status that the
production interceptor would make of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import grpc
from grpc_status import rpc_status
from tunewright.wire.reasons import Reason
from tunewright.wire.status import RichError, make_error, status_of

from svckit.refusal import Refusal
from tests.simulation.history import History
from tests.simulation.virtual_time import Process, ProcessKilled, World

Handler = Callable[[Any, Any], Awaitable[Any]]


class CallFailed(grpc.RpcError):
    """What a stub raises: code, text and trailing metadata, as from gRPC."""

    def __init__(self, error: RichError) -> None:
        super().__init__(error.message)
        self._error = error

    @cached_property
    def _status(self) -> Any:
        return rpc_status.to_status(status_of(self._error))

    def code(self) -> Any:
        """The status code."""
        return self._status.code

    def details(self) -> str:
        """The text."""
        return str(self._status.details)

    def trailing_metadata(self) -> Any:
        """Where the rich status is."""
        return self._status.trailing_metadata


def _plain(code: str, message: str) -> CallFailed:
    return CallFailed(RichError(code, "", message))


@dataclass
class Weather:
    """Chances of each mishap of a message; all 0 once faults have stopped."""

    lost: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    slow_seconds_max: float = 0.0


@dataclass
class _Node:
    process: Process | None = None
    handlers: dict[str, Handler] = field(default_factory=dict)
    host_is_up: bool = True


class Network:
    """All links and listeners."""

    def __init__(self, world: World, history: History, air: Process) -> None:
        self._world = world
        self._history = history
        self._air = air
        self._nodes: dict[str, _Node] = {}
        self._cut: set[tuple[str, str]] = set()
        self.weather = Weather()

    def listen(self, node: str, process: Process, handlers: dict[str, Handler]) -> None:
        """The node's calls are answered by this process from now on."""
        known = self._nodes.setdefault(node, _Node())
        known.process, known.handlers = process, handlers

    def set_up(self, node: str, *, is_up: bool) -> None:
        """Whether the node's machine runs: one that does not refuses nothing, it is silent."""
        self._nodes.setdefault(node, _Node()).host_is_up = is_up

    def cut(self, source: str, target: str) -> None:
        """Nothing from `source` reaches `target` any more."""
        self._cut.add((source, target))

    def heal(self, source: str, target: str) -> None:
        """It does again."""
        self._cut.discard((source, target))

    def heal_all(self) -> None:
        """Every link works."""
        self._cut.clear()

    async def call(
        self, caller: Process, source: str, target: str, method: str, request: Any, seconds: float
    ) -> Any:
        """One call; raises CallFailed."""
        if not caller.alive:
            raise asyncio.CancelledError
        answer: asyncio.Future[Any] = caller.create_future()
        timer = caller.call_at(self._world.now + seconds, _fail, answer)
        sent = type(request).FromString(request.SerializeToString())

        def reply(value: Any, error: CallFailed | None) -> None:
            caller.call_soon(_settle, answer, value, error)

        self._send(source, target, lambda: self._arrive(source, target, method, sent, reply))
        try:
            return await answer
        finally:
            timer.cancel()

    def push(
        self, source: str, target: str, deliver: Callable[[], None], rng: random.Random
    ) -> None:
        """A message of a stream: in the hands of `deliver`, or lost with its connection.

        `rng` is the stream's own: the fan-out serves subscribers in an order that
        differs from run to run, and must not decide who draws what.
        """
        self._send(source, target, deliver, rng)

    def _send(
        self,
        source: str,
        target: str,
        deliver: Callable[[], None],
        own_rng: random.Random | None = None,
    ) -> None:
        rng, weather = own_rng or self._world.rng, self.weather
        chance = rng.random()
        if (source, target) in self._cut:
            return
        if chance < weather.lost:
            self._history.fault("message lost")
            return
        copies = 1
        if own_rng is None and chance < weather.lost + weather.doubled:
            self._history.fault("message doubled")
            copies = 2
        for _ in range(copies):
            delay = 0.002 + 0.02 * rng.random()
            if rng.random() < weather.slow:
                self._history.fault("message late")
                delay += weather.slow_seconds_max * rng.random()
            self._air.after(delay, self._pass, source, target, deliver)

    def _pass(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if (source, target) not in self._cut:
            deliver()

    def _arrive(
        self,
        source: str,
        target: str,
        method: str,
        request: Any,
        reply: Callable[[Any, CallFailed | None], None],
    ) -> None:
        node = self._nodes.get(target)
        if node is None or not node.host_is_up:
            return
        process = node.process

        def answer(value: Any, error: CallFailed | None) -> None:
            self._send(target, source, lambda: reply(value, error))

        if process is None or not process.alive:
            answer(None, _plain("UNAVAILABLE", "connection refused"))
            return
        handler = node.handlers[method]
        process.spawn(self._serve(process, handler, method, request, answer), method)

    async def _serve(
        self,
        process: Process,
        handler: Handler,
        method: str,
        request: Any,
        answer: Callable[[Any, CallFailed | None], None],
    ) -> None:
        try:
            value = await handler(request, None)
        except Refusal as refusal:
            error = make_error(
                refusal.reason,
                refusal.message,
                refusal.metadata,
                refusal.violations,
                refusal.retry_delay_seconds,
            )
            answer(None, CallFailed(error))
        except (ProcessKilled, asyncio.CancelledError):
            raise
        except Exception as error:
            self._world.problem(f"{process.name}: {method} failed: {error!r}")
            answer(None, CallFailed(make_error(Reason.INTERNAL, "internal")))
        else:
            if process.alive:
                answer(value, None)


class Channel:
    """As much of grpc.aio.Channel as a generated stub needs."""

    def __init__(self, network: Network, process: Process, source: str, target: str) -> None:
        self._network = network
        self._process = process
        self._source = source
        self._target = target

    def unary_unary(self, method: str, *_args: Any, **_more: Any) -> Callable[..., Any]:
        """A call of one request and one answer."""

        def call(request: Any, timeout: float = 5.0, **_options: Any) -> Awaitable[Any]:
            return self._network.call(
                self._process, self._source, self._target, method, request, timeout
            )

        return call

    def unary_stream(self, method: str, *_args: Any, **_more: Any) -> Callable[..., Any]:
        """Streams are pulled in this simulation."""

        def call(*_given: Any, **_options: Any) -> Any:
            raise NotImplementedError(method)

        return call


def _fail(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(_plain("DEADLINE_EXCEEDED", "no answer in time"))


def _settle(answer: asyncio.Future[Any], value: Any, error: CallFailed | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)
