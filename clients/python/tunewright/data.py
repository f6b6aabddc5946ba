"""Data checks, for the synchronous client.

Thin over `tunewright.requests` and `tunewright.transport`; holds no rules of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self, Unpack, cast

import grpc

from tunewright import requests, rpcs
from tunewright.data_report import DataReport, report_of
from tunewright.errors import error_from_rpc
from tunewright.requests import JobArguments
from tunewright.rpcs import Host
from tunewright.transport import OpenStream, Transport
from tunewright.v1 import data_service_pb2


class DataCheck:
    """A data check under way: iterate over its messages, or ask for the whole `report()`.

    Leave its `with` block, or `close()`, to end it on the trainer as well.
    """

    def __init__(self, stream: OpenStream) -> None:
        self._stream = stream
        self._closed = False

    def report(self) -> DataReport:
        """Waits for the verdict, and gives everything that was said. Raises as iterating does."""
        with self:
            return report_of(self)

    def __iter__(self) -> Iterator[data_service_pb2.CheckDataResponse]:
        return self

    def __next__(self) -> data_service_pb2.CheckDataResponse:
        if self._closed:
            raise StopIteration
        try:
            message = next(self._stream.call)
        except grpc.RpcError as error:
            raise error_from_rpc(error, Host.SCHEDULER.at(self._stream.address)) from None
        return cast("data_service_pb2.CheckDataResponse", message)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the check. Safe to call twice."""
        self._closed = True
        self._stream.call.cancel()


class Data:
    """`client.data`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def check(self, *, rows_shown: int = 3, **arguments: Unpack[JobArguments]) -> DataCheck:
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
        request = requests.check_data(arguments, rows_shown)
        return DataCheck(self._transport.open(rpcs.CHECK_DATA, request))
