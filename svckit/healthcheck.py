"""Asks a service whether it serves: python -m svckit.healthcheck ADDRESS [--ca-file PEM]

Exit code 0 if it says SERVING, else 1 and one line. Needs no token. For
container health checks and scripts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tunewright.errors import error_from_rpc

_SECONDS_MAX = 5.0


def main(argv: Sequence[str]) -> int:
    """Asks once, within the deadline."""
    options = _parser().parse_args(argv)
    try:
        with _channel(options.address, options.ca_file) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(
                health_pb2.HealthCheckRequest(service=options.service), timeout=options.timeout
            )
    except OSError as error:
        return _unhealthy(str(error))
    except grpc.RpcError as error:
        return _unhealthy(str(error_from_rpc(error, options.address)))
    kinds = health_pb2.HealthCheckResponse
    if answer.status != kinds.SERVING:
        return _unhealthy(f"{options.address}: {kinds.ServingStatus.Name(answer.status)}")
    return 0


def _channel(address: str, ca_file: Path | None) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if ca_file is None:
        return grpc.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
    return grpc.secure_channel(address, credentials, options=options)


def _unhealthy(problem: str) -> int:
    print(problem, file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="healthcheck", description="Asks whether it serves.")
    parser.add_argument("address", help="host:port")
    parser.add_argument("--service", default="", help="full name; default: the server as a whole")
    parser.add_argument("--ca-file", type=Path, help="PEM to check it by, which turns TLS on")
    parser.add_argument("--timeout", type=float, default=_SECONDS_MAX, help="seconds")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
