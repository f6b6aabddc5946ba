"""DataService: relays data checks from the trainers that carry them out.

Clients know the scheduler alone; what is read is on a trainer's disk. A call
that ends, ends the trainer's.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from tunewright.v1 import data_service_pb2, data_service_pb2_grpc

from scheduler_svc.application.data_checks import DataChecks
from scheduler_svc.domain.errors import TooManyChecks, TrainerUnavailable
from scheduler_svc.domain.fleet import Host
from scheduler_svc.hop import Hop
from scheduler_svc.rpc.context import Context
from scheduler_svc.rpc.data_requests import check_of
from svckit.spec.wire import spec_to_proto


class Relay(Protocol):
    """A data check on one trainer."""

    def __call__(
        self, host: Host, request: data_service_pb2.CheckDataRequest
    ) -> AsyncGenerator[data_service_pb2.CheckDataResponse, None]:
        """What the trainer says. Raises the trainer's own refusals, and TrainerUnavailable; it
        ends there as soon as it is closed here."""


class DataServicer(data_service_pb2_grpc.DataServiceServicer):
    """Converts, makes one hop to the use case, and relays."""

    def __init__(self, checks: DataChecks, hop: Hop, relay: Relay) -> None:
        self._checks = checks
        self._hop = hop
        self._relay = relay

    async def CheckData(  # noqa: N802 - the name is the contract's
        self, request: data_service_pb2.CheckDataRequest, context: Context
    ) -> AsyncIterator[data_service_pb2.CheckDataResponse]:
        """Checks the data of a job on a trainer."""
        asked = check_of(request)
        plan = await self._hop(self._checks.plan, asked.spec, asked.trainer_id)
        whole = data_service_pb2.CheckDataRequest(spec=spec_to_proto(plan.spec))
        if request.HasField("rows_shown"):
            whole.rows_shown = request.rows_shown
        for host in plan.hosts:
            begun = False
            messages = self._relay(host, whole)
            try:
                async for message in messages:
                    begun = True
                    yield message
                return
            except (TooManyChecks, TrainerUnavailable):
                if begun or host is plan.hosts[-1]:
                    raise
            finally:
                await messages.aclose()
