"""What stands between the wire and every servicer: tokens, and errors as status.

Servicers raise; the one place that aborts is here.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
import structlog
from grpc_status import rpc_status
from tunewright.wire.reasons import Reason
from tunewright.wire.status import RichError, make_error, status_of

from svckit.refusal import Refusal

# Probes and tools must be able to ask these without a token.
OPEN_METHODS = ("/grpc.health.v1.Health/",)

# Quoted: generic in the stubs, not at run time.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a servicer raises into a status with ErrorInfo."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wraps the method's handler; unary and server-streaming ones."""
        handler = await continuation(handler_call_details)
        method = getattr(handler_call_details, "method", "")
        if handler is None or handler.request_streaming:
            return handler
        if handler.response_streaming:
            return rebuilt(handler, unary_stream=_guarded_stream(handler.unary_stream, method))
        return rebuilt(handler, unary_unary=_guarded_unary(handler.unary_unary, method))


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without one of the known bearer tokens."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._tokens = [token.encode() for token in tokens.values()]

    @classmethod
    def from_file(cls, file: Path) -> TokenInterceptor:
        """Reads "name:token" lines; OSError if it cannot be read, ValueError if it has none.

        An empty token is refused as well: whoever shows nothing would show the right one.
        """
        tokens: dict[str, str] = {}
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                name, _, token = line.strip().rpartition(":")
                if not token:
                    raise ValueError(f"the token in line {number} of {file} is empty")
                tokens[name or f"line {number}"] = token
        if not tokens:
            raise ValueError(f"no token in {file}")
        return cls(tokens)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Passes the call on, or answers it with UNAUTHENTICATED."""
        method = getattr(handler_call_details, "method", "")
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(OPEN_METHODS):
            return handler
        metadata = getattr(handler_call_details, "invocation_metadata", ()) or ()
        if self._known(dict(metadata).get("authorization", "")):
            return handler
        return _refusing(handler)

    def _known(self, header: str | bytes) -> bool:
        shown = header.encode() if isinstance(header, str) else header
        scheme, _, token = shown.partition(b" ")
        # No early exit: the time must not tell which token is near.
        matches = [hmac.compare_digest(token, known) for known in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)


def _guarded_unary(inner: Callable[..., Any] | None, method: str) -> Callable[..., Any]:
    assert inner is not None, method

    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await inner(request, context)
        except (grpc.aio.AbortError, asyncio.CancelledError, NotImplementedError):
            raise
        except Exception as error:
            await _abort(context, error, method)

    return guarded


def _guarded_stream(inner: Callable[..., Any] | None, method: str) -> Callable[..., Any]:
    assert inner is not None, method

    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in inner(request, context):
                yield response
        except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit, NotImplementedError):
            raise
        except Exception as error:
            await _abort(context, error, method)

    return guarded


def _refusing(handler: Handler) -> Handler:
    error = make_error(Reason.UNAUTHENTICATED, "a known bearer token is needed")

    async def refuse(request: Any, context: Context) -> NoReturn:
        await context.abort_with_status(rpc_status.to_status(status_of(error)))

    async def refuse_stream(request: Any, context: Context) -> AsyncIterator[Any]:
        await context.abort_with_status(rpc_status.to_status(status_of(error)))
        yield  # type: ignore[unreachable] # makes this a generator, as grpc expects of a stream

    if handler.request_streaming:
        kind = "stream_stream" if handler.response_streaming else "stream_unary"
    else:
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
    return rebuilt(handler, **{kind: refuse_stream if handler.response_streaming else refuse})


def rebuilt(handler: Handler, **behaviour: Callable[..., Any]) -> Handler:
    """The same handler with another behaviour."""
    return handler._replace(**behaviour)  # type: ignore[attr-defined,no-any-return] # it is a namedtuple


async def _abort(context: Context, error: Exception, method: str) -> NoReturn:
    status = rpc_status.to_status(status_of(_public(error, method)))
    # An abort replaces what was set before it, and with it what the server says of itself.
    kept = (*status.trailing_metadata, *(context.trailing_metadata() or ()))
    await context.abort(status.code, status.details, kept)


def _public(error: Exception, method: str) -> RichError:
    """What a caller may know: a refusal as it is, anything else only by its type."""
    if isinstance(error, Refusal):
        made = make_error(
            error.reason,
            error.message,
            error.metadata,
            error.violations,
        )
        return replace(made, retry_delay_seconds=error.retry_delay_seconds)
    structlog.get_logger().error("call failed", method=method, exc_info=error)
    return make_error(Reason.INTERNAL, f"{type(error).__name__}; the server's log has the details")
