"""Data checks, for the asyncio client: the twin of `tunewright.data`.

Thin over `tunewright.requests` and `tunewright.transport`; holds no rules of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, Unpack, cast

import grpc
import grpc.aio

from tunewright import requests, rpcs
from tunewright.aio.transport import AsyncOpenStream, AsyncTransport
from tunewright.data_report import DataReport
from tunewright.errors import ApiError, error_from_rpc
from tunewright.requests import JobArguments
from tunewright.rpcs import Host
from tunewright.v1 import data_service_pb2


class AsyncDataCheck:
    """A data check under way: iterate over its messages, or ask for the whole `report()`.

    Leave its `async with` block, or `close()`, to end it on the trainer as well.
    """

    def __init__(
        self, transport: AsyncTransport, request: data_service_pb2.CheckDataRequest
    ) -> None:
        self._transport = transport
        self._request = request
        self._stream: AsyncOpenStream | None = None
        self._closed = False

    async def report(self) -> DataReport:
        """Waits for the verdict, and gives everything that was said. Raises as iterating does."""
        report = DataReport()
        async with self:
            async for message in self:
                report.add(message)
        return report.require_complete()

    def __aiter__(self) -> AsyncIterator[data_service_pb2.CheckDataResponse]:
        return self

    async def __anext__(self) -> data_service_pb2.CheckDataResponse:
        if self._closed:
            raise StopAsyncIteration
        if self._stream is None:
            self._stream = await self._transport.open(rpcs.CHECK_DATA, self._request)
        try:
            message = await self._stream.call.read()
        except asyncio.CancelledError:
            # As grpc.aio says a call that the service cancelled; a cancelled task is passed on.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ApiError("the service cancelled the check", code="CANCELLED") from None
        except grpc.RpcError as error:
            raise error_from_rpc(error, Host.SCHEDULER.at(self._stream.address)) from None
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return cast("data_service_pb2.CheckDataResponse", message)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the check. Safe to call twice."""
        self._closed = True
        if self._stream is not None:
            self._stream.call.cancel()


class AsyncData:
    """`client.data`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def check(self, *, rows_shown: int = 3, **arguments: Unpack[JobArguments]) -> AsyncDataCheck:
        """Looks at the data of a job as training would, on a trainer, without a GPU.

        Takes what `jobs.create` takes, so that a job can be created with the same arguments;
        only `output_dir` may be left out. Errors come when the check is read.

        Args:
            rows_shown: rows to show of each source, 0 to 20.
            arguments: see `tunewright.requests.JobArguments`; `trainer` is the one to check on.

        Raises:
            InvalidRequest: `violations` names every bad field.
            NotFound: no such trainer or recipe.
            Unavailable: no trainer can check data now.
            ResourceExhausted: the trainer runs as many checks as it may.
            DeadlineExceeded: the check took longer than the trainer allows.
        """
        return AsyncDataCheck(self._transport, requests.check_data(arguments, rows_shown))
