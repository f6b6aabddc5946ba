"""Every answer says which version gave it, and what time it is there.

In trailing metadata, so that it costs no message of its own; an answer that is
an error has it too. Health probes need no token, and are told nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Any

import grpc
import grpc.aio
from tunewright.wire.answers import TIME_KEY, VERSION_KEY

from svckit.interceptors import OPEN_METHODS, Context, Continuation, Handler, rebuilt

VERSION = version("tunewright-server")


class SelfDescription(grpc.aio.ServerInterceptor):
    """Adds version and clock to what is answered; unary and server-streaming calls."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        method = getattr(handler_call_details, "method", "")
        if handler is None or handler.request_streaming or method.startswith(OPEN_METHODS):
            return handler
        if handler.response_streaming:
            return rebuilt(handler, unary_stream=_told_stream(handler.unary_stream))
        return rebuilt(handler, unary_unary=_told_unary(handler.unary_unary))


def _told_unary(inner: Callable[..., Any] | None) -> Callable[..., Any]:
    assert inner is not None

    async def told(request: Any, context: Context) -> Any:
        context.set_trailing_metadata(_about_us())
        return await inner(request, context)

    return told


def _told_stream(inner: Callable[..., Any] | None) -> Callable[..., Any]:
    assert inner is not None

    async def told(request: Any, context: Context) -> AsyncIterator[Any]:
        context.set_trailing_metadata(_about_us())
        async for response in inner(request, context):
            yield response

    return told


def _about_us() -> tuple[tuple[str, str], ...]:
    return ((VERSION_KEY, VERSION), (TIME_KEY, f"{time.time():.6f}"))
