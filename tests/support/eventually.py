"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_PAUSE_SECONDS = 0.02


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], timeout_seconds: float = 10.0, what: str = ""
) -> T: ...
@overload
async def eventually(
    condition: Callable[[], T], timeout_seconds: float = 10.0, what: str = ""
) -> T: ...
async def eventually(
    condition: Callable[[], Any], timeout_seconds: float = 10.0, what: str = ""
) -> Any:
    """The first truthy value of `condition` (plain or async); AssertionError after the bound."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, _complaint(condition, what, value, timeout_seconds)
        await asyncio.sleep(_PAUSE_SECONDS)


def eventually_sync(condition: Callable[[], T], timeout_seconds: float = 10.0, what: str = "") -> T:
    """The same for synchronous tests."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, _complaint(condition, what, value, timeout_seconds)
        time.sleep(_PAUSE_SECONDS)
    return value


def _complaint(condition: object, what: str, value: object, seconds: float) -> str:
    name = what or getattr(condition, "__name__", repr(condition))
    return f"not within {seconds:g} s: {name} (last value: {value!r})"
