"""The asyncio client and what it hands out."""

from tunewright.aio.client import AsyncClient
from tunewright.aio.data import AsyncData, AsyncDataCheck
from tunewright.aio.fleet import AsyncTrainers
from tunewright.aio.jobs import AsyncJob, AsyncJobs
from tunewright.aio.recipes import AsyncRecipes
from tunewright.aio.stream import AsyncLines, AsyncWatch

__all__ = [
    "AsyncClient",
    "AsyncData",
    "AsyncDataCheck",
    "AsyncJob",
    "AsyncJobs",
    "AsyncLines",
    "AsyncRecipes",
    "AsyncTrainers",
    "AsyncWatch",
]
