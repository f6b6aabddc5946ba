"""Trainers, for the asyncio client: the twin of `tunewright.fleet`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tunewright import rpcs
from tunewright.aio.transport import AsyncTransport
from tunewright.requests import trainer_name
from tunewright.v1 import fleet_service_pb2, trainer_pb2


class AsyncTrainers:
    """`client.trainers`. Names may be given with or without "trainers/"."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, page_size: int = 0) -> AsyncIterator[trainer_pb2.Trainer]:
        """All trainers by name; walks the pages."""
        request = fleet_service_pb2.ListTrainersRequest(page_size=page_size)
        while True:
            page = await self._transport.call(rpcs.LIST_TRAINERS, request)
            for trainer in page.trainers:
                yield trainer
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get(self, name: str) -> trainer_pb2.Trainer:
        """One trainer. Raises NotFound."""
        request = fleet_service_pb2.GetTrainerRequest(name=trainer_name(name))
        return await self._transport.call(rpcs.GET_TRAINER, request)

    async def cordon(self, name: str) -> trainer_pb2.Trainer:
        """No new work goes there; what runs, runs on. Raises NotFound."""
        request = fleet_service_pb2.CordonTrainerRequest(name=trainer_name(name))
        return await self._transport.call(rpcs.CORDON_TRAINER, request)

    async def uncordon(self, name: str) -> trainer_pb2.Trainer:
        """Takes a cordon back. Raises NotFound."""
        request = fleet_service_pb2.UncordonTrainerRequest(name=trainer_name(name))
        return await self._transport.call(rpcs.UNCORDON_TRAINER, request)
