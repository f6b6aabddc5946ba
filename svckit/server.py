"""A gRPC server as each of our services is one: limits, health, reflection, drain.

Owns the process's signals while it serves. Refuses an address that it cannot
bind, with one line.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from svckit import limits
from svckit.config import ServiceConfig, fail_configuration, split_address
from svckit.interceptors import ErrorInterceptor, TokenInterceptor
from svckit.reflection import add_reflection
from svckit.self_description import SelfDescription

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", limits.METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", limits.KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients ping at KEEPALIVE_MS; half of it leaves room for jitter.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", limits.KEEPALIVE_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.server.max_pending_requests", limits.PENDING_REQUESTS_MAX),
    ("grpc.server.max_pending_requests_hard_limit", limits.PENDING_REQUESTS_HARD_LIMIT),
)


@dataclass(frozen=True)
class Registration:
    """One service of a server: its descriptor, the generated `add_...` function, the servicer."""

    descriptor: ServiceDescriptor
    add: Callable[[Any, grpc.aio.Server], None]
    servicer: Any


class RunningServer:
    """A server that listens; `address` is the real one, also where port 0 was asked for."""

    def __init__(
        self,
        server: grpc.aio.Server,
        address: str,
        health_servicer: health.aio.HealthServicer,
        names: Sequence[str],
        drain_seconds: float,
    ) -> None:
        self.address = address
        self._server = server
        self._health = health_servicer
        self._names = names
        self._drain_seconds = drain_seconds
        self._serving: bool | None = None

    async def set_serving(self, serving: bool) -> None:
        """Says SERVING or NOT_SERVING for the whole server and each service."""
        if serving == self._serving:
            return
        self._serving = serving
        kinds = health_pb2.HealthCheckResponse
        status = kinds.SERVING if serving else kinds.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def wait_for_signal(self) -> signal.Signals:
        """Returns at the first SIGTERM or SIGINT; a second one ends the process at once."""
        loop = asyncio.get_running_loop()
        received: asyncio.Future[signal.Signals] = loop.create_future()

        def on_signal(number: signal.Signals) -> None:
            if received.done():
                os._exit(128 + number)
            received.set_result(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        return await received

    async def stop(self) -> None:
        """Ends it: NOT_SERVING, then open calls get `drain_seconds`. Safe to call twice."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(self._drain_seconds)


async def start_server(
    config: ServiceConfig, registrations: Sequence[Registration]
) -> RunningServer:
    """Binds and starts; health says NOT_SERVING until `set_serving(True)`.

    Exits with code 2 and one line if the address cannot be bound or a file
    cannot be read.
    """
    server = grpc.aio.server(interceptors=_interceptors(config), options=_OPTIONS)
    names = [registration.descriptor.full_name for registration in registrations]
    for registration in registrations:
        registration.add(registration.servicer, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    health_descriptor: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
    described = [registration.descriptor for registration in registrations]
    add_reflection(server, [*described, health_descriptor])
    port = _bind(server, config)
    await server.start()
    host, _ = split_address(config.listen)
    shown = f"[{host}]" if ":" in host else host
    running = RunningServer(server, f"{shown}:{port}", health_servicer, names, config.drain_seconds)
    await running.set_serving(False)
    structlog.get_logger().info("listening", address=running.address)
    return running


def announce_ready(config: ServiceConfig, running: RunningServer) -> None:
    """Writes the ready file, if there is to be one: {"address": "host:port", "pid": n}."""
    if config.ready_file is not None:
        write_atomically(
            config.ready_file, json.dumps({"address": running.address, "pid": os.getpid()})
        )


def write_atomically(file: Path, text: str) -> None:
    """Puts `text` into `file`, so that a reader sees all of it or nothing."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)


def _interceptors(config: ServiceConfig) -> list[grpc.aio.ServerInterceptor]:
    inner = [SelfDescription(), ErrorInterceptor()]
    if config.token_file is None:
        return inner
    try:
        return [TokenInterceptor.from_file(config.token_file), *inner]
    except (OSError, ValueError) as error:
        fail_configuration(f"token_file: {error}")


def _bind(server: grpc.aio.Server, config: ServiceConfig) -> int:
    try:
        if config.tls_certificate_file is None or config.tls_key_file is None:
            return server.add_insecure_port(config.listen)
        pair = (config.tls_key_file.read_bytes(), config.tls_certificate_file.read_bytes())
        return server.add_secure_port(config.listen, grpc.ssl_server_credentials([pair]))
    except (OSError, RuntimeError) as error:
        fail_configuration(f"cannot listen on {config.listen}: {error}")
