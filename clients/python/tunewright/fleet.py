"""Trainers, for the synchronous client: list, look at, cordon.

Owns also `HostInfo`, what both clients answer to system_info().
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tunewright import rpcs
from tunewright.errors import ApiError
from tunewright.requests import trainer_name
from tunewright.transport import Transport
from tunewright.v1 import fleet_service_pb2, trainer_pb2, trainer_service_pb2


@dataclass(frozen=True)
class HostInfo:
    """One host: as the scheduler knows it, and what it tells of itself, or why it does not."""

    trainer: trainer_pb2.Trainer
    system: trainer_service_pb2.SystemInfo | None
    error: ApiError | None


class Trainers:
    """`client.trainers`. Names may be given with or without "trainers/"."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, page_size: int = 0) -> Iterator[trainer_pb2.Trainer]:
        """All trainers by name; walks the pages."""
        request = fleet_service_pb2.ListTrainersRequest(page_size=page_size)
        while True:
            page = self._transport.call(rpcs.LIST_TRAINERS, request)
            yield from page.trainers
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get(self, name: str) -> trainer_pb2.Trainer:
        """One trainer. Raises NotFound."""
        request = fleet_service_pb2.GetTrainerRequest(name=trainer_name(name))
        return self._transport.call(rpcs.GET_TRAINER, request)

    def cordon(self, name: str) -> trainer_pb2.Trainer:
        """No new work goes there; what runs, runs on. Raises NotFound."""
        request = fleet_service_pb2.CordonTrainerRequest(name=trainer_name(name))
        return self._transport.call(rpcs.CORDON_TRAINER, request)

    def uncordon(self, name: str) -> trainer_pb2.Trainer:
        """Takes a cordon back. Raises NotFound."""
        request = fleet_service_pb2.UncordonTrainerRequest(name=trainer_name(name))
        return self._transport.call(rpcs.UNCORDON_TRAINER, request)
