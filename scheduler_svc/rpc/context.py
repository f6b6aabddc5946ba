"""The type of the context that grpc.aio hands to a servicer."""

from typing import Any

import grpc.aio

Context = grpc.aio.ServicerContext[Any, Any]
