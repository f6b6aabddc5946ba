"""How a client reaches a service: address, token, certificate, channel options.

Reads the environment once, when a client is made: TUNEWRIGHT_ADDRESS,
TUNEWRIGHT_TOKEN_FILE, TUNEWRIGHT_TOKEN, TUNEWRIGHT_CA_FILE. Refuses, with
ConfigurationError, what cannot work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import ConfigurationError

DEFAULT_ADDRESS = "127.0.0.1:7400"
_MESSAGE_BYTES_MAX = 4 * 1024 * 1024

# The servers allow these pings. gRPC's own wait between connection attempts
# grows to two minutes, far too long for a watch that is to go on after a restart.
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.enable_http_proxy", 0),
    # A client is opened and closed many times in one program; sharing hidden
    # connections would keep a dead server's back-off alive across clients.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Connection:
    """Where the scheduler is, and how a client shows itself. Secrets stay out of repr."""

    address: str
    metadata: tuple[tuple[str, str], ...] = ()
    certificates: bytes | None = None

    def __repr__(self) -> str:
        return f"Connection({self.address!r}, tls={self.certificates is not None})"


def resolve_connection(
    address: str | None,
    token: str | None,
    ca_file: str | os.PathLike[str] | None,
    environment: Mapping[str, str] | None = None,
) -> Connection:
    """What was given, else the environment, else the default address.

    Raises ConfigurationError for an address that is not host:port and for a
    token or certificate file that cannot be read.
    """
    env = os.environ if environment is None else environment
    where = address or env.get("TUNEWRIGHT_ADDRESS") or DEFAULT_ADDRESS
    authority = ca_file or env.get("TUNEWRIGHT_CA_FILE")
    secret = token or _token_from(env)
    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    certificates = _read(Path(authority), "certificate") if authority else None
    return Connection(check_address(where), metadata, certificates)


def check_address(address: str) -> str:
    """The address, if it is host:port; ConfigurationError otherwise."""
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigurationError(f"expected an address like 127.0.0.1:7400, got {address!r}")
    return address


def _token_from(env: Mapping[str, str]) -> str:
    path = env.get("TUNEWRIGHT_TOKEN_FILE")
    if not path:
        return env.get("TUNEWRIGHT_TOKEN", "").strip()
    lines = _read(Path(path), "token").decode("utf-8", "replace").split()
    if not lines:
        raise ConfigurationError(f"the token file {path} is empty")
    # "name:token" is how a service's own token file names its callers.
    return lines[0].rpartition(":")[2]


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = error.strerror or str(error)
    raise ConfigurationError(f"cannot read the {what} file {path}: {problem}")
