"""Python SDK of Tunewright: `from tunewright import Client, AsyncClient`.

Names are loaded on first use, so that importing `tunewright.v1.feed_pb2` (as a
training process does) brings in neither grpc nor the SDK, and importing the
SDK brings in no part of the command line. Errors are in `tunewright.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewright.aio import AsyncClient as AsyncClient
    from tunewright.client import Client as Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]

_HOMES = {"AsyncClient": "tunewright.aio", "Client": "tunewright.client"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tunewright' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
