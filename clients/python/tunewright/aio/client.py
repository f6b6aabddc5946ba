"""The asyncio client: `from tunewright import AsyncClient`; the twin of `tunewright.client`.

Thin: requests come from `tunewright.requests`, calls go through
`tunewright.transport`. It sends protos and validates nothing itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tunewright import rpcs
from tunewright.aio.data import AsyncData
from tunewright.aio.fleet import AsyncTrainers
from tunewright.aio.jobs import AsyncJobs
from tunewright.aio.recipes import AsyncRecipes
from tunewright.aio.stream import AsyncWatch
from tunewright.aio.transport import AsyncTransport
from tunewright.client import DEFAULT_TIMEOUT_SECONDS
from tunewright.connection import resolve_connection
from tunewright.errors import ApiError
from tunewright.fleet import HostInfo
from tunewright.retry import Backoff, Reconnect
from tunewright.subscription import EntrySubscription, OnInterruption, StreamState
from tunewright.v1 import fleet_service_pb2, trainer_pb2, trainer_service_pb2


class AsyncClient:
    """A connection to one Tunewright installation. Use it in a `async with` block, or close it.

    Args:
        address: the scheduler's host:port; else TUNEWRIGHT_ADDRESS, else
            127.0.0.1:7400. The monitor is discovered.
        token: else from the file that TUNEWRIGHT_TOKEN_FILE names, else TUNEWRIGHT_TOKEN.
        ca_file: PEM to check the services by, which turns TLS on; else TUNEWRIGHT_CA_FILE.
        timeout: seconds that one call may take, its retries included. Streams have no limit.
        backoff: waits between tries.

    Raises:
        ConfigurationError: the address or a file cannot be used.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        backoff: Backoff | None = None,
    ) -> None:
        connection = resolve_connection(address, token, ca_file)
        self._transport = AsyncTransport(connection, timeout, backoff or Backoff())
        self.jobs = AsyncJobs(self._transport)
        self.data = AsyncData(self._transport)
        self.recipes = AsyncRecipes(self._transport)
        self.trainers = AsyncTrainers(self._transport)

    @property
    def address(self) -> str:
        """The scheduler's."""
        return self._transport.address

    def watch(
        self,
        jobs: Sequence[str] = (),
        *,
        labels: Mapping[str, str] | None = None,
        resume_token: str = "",
        from_now: bool = False,
        kinds: Sequence[str | int] = (),
        until_terminal: bool = True,
        wait_for_job: bool = False,
        on_interruption: OnInterruption | None = None,
        give_up_seconds: float | None = None,
    ) -> AsyncWatch:
        """Entries of several jobs: those named, or all that have the labels.

        See `AsyncJob.watch`. With `labels` it never ends by itself. Keep `resume_token`
        of the watch to continue another time.

        Raises JobNotFound, as soon as it is iterated over, if one of `jobs` does not exist;
        with `wait_for_job` it waits for such a job instead.
        """
        subscription = EntrySubscription(
            jobs,
            labels=labels,
            resume_token=resume_token,
            from_now=from_now,
            kinds=kinds,
            until_terminal=until_terminal,
            wait_for_job=wait_for_job,
        )
        reconnect = Reconnect(self._transport.backoff, give_up_seconds)
        state = StreamState(subscription, reconnect)
        return AsyncWatch(self._transport, subscription, state, on_interruption)

    async def endpoints(self) -> fleet_service_pb2.Endpoints:
        """Where the services are, and the scheduler's version."""
        return await self._transport.call(
            rpcs.GET_ENDPOINTS, fleet_service_pb2.GetEndpointsRequest()
        )

    async def system_info(self, trainer: str | None = None) -> list[HostInfo]:
        """What each host, or one, is: libraries, GPUs, memory, disk.

        A host that does not answer is in the list with its error.
        Raises NotFound for an unknown trainer.
        """
        found = (
            [await self.trainers.get(trainer)]
            if trainer
            else [one async for one in self.trainers.list()]
        )
        return list(await asyncio.gather(*(self._host_info(one) for one in found)))

    async def close(self) -> None:
        """Closes the connections. Safe to call twice."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _host_info(self, trainer: trainer_pb2.Trainer) -> HostInfo:
        request = trainer_service_pb2.GetSystemInfoRequest()
        try:
            system = await self._transport.call(
                rpcs.GET_SYSTEM_INFO, request, address=trainer.address
            )
        except ApiError as error:
            return HostInfo(trainer, None, error)
        return HostInfo(trainer, system, None)
