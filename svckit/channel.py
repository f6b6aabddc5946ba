"""Channels from one service to another, with the keepalive that our servers allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from svckit.limits import KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS, MESSAGE_BYTES_MAX

_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # Two connections to one address must not be shared between channels with different tokens.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True)
class ChannelSecurity:
    """How a service shows itself to others: a CA to check them by, a token to show."""

    tls_ca_file: Path | None = None
    token_file: Path | None = None


def open_channel(address: str, security: ChannelSecurity | None = None) -> grpc.aio.Channel:
    """A channel to another service ("host:port"); it connects when it is first used.

    Raises OSError if a file of `security` cannot be read.
    """
    security = security or ChannelSecurity()
    interceptors: list[grpc.aio.ClientInterceptor] = []
    if security.token_file is not None:
        header = ("authorization", f"Bearer {_first_token(security.token_file)}")
        interceptors = [_UnaryToken(header), _StreamToken(header)]
    if security.tls_ca_file is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=interceptors)
    credentials = grpc.ssl_channel_credentials(security.tls_ca_file.read_bytes())
    return grpc.aio.secure_channel(
        address, credentials, options=_OPTIONS, interceptors=interceptors
    )


def _first_token(file: Path) -> str:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            return line.rpartition(":")[2].strip()
    raise OSError(f"no token in {file}")


class _Token:
    """Adds the authorization header to a call."""

    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    def with_token(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = details.metadata or grpc.aio.Metadata()
        metadata.add(*self._header)
        return details._replace(metadata=metadata)  # type: ignore[attr-defined,no-any-return] # it is a namedtuple


# grpc.aio files an interceptor under the first kind that it is an instance of: one class a kind.
class _UnaryToken(_Token, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self.with_token(client_call_details), request)


class _StreamToken(_Token, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self.with_token(client_call_details), request)
