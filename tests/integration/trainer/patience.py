"""Waiting with the patience that whole processes need on a busy machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.eventually import eventually as eventually_within


async def eventually(
    condition: Callable[[], Any], timeout_seconds: float = 30.0, what: str = ""
) -> Any:
    """As in tests.support, with a longer bound."""
    return await eventually_within(condition, timeout_seconds, what)
