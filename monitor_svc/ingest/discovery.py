"""Which trainers there are: asked of the scheduler, kept in the store.

What is in the store is enough to read on while the scheduler is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

import grpc
import grpc.aio
import structlog
from tunewright.v1 import fleet_service_pb2, fleet_service_pb2_grpc, trainer_pb2

from monitor_svc.domain.entries import Entry
from monitor_svc.domain.ports import Hop, LeaseStore
from svckit.refusal import Refusal

log = structlog.get_logger()

_CALL_TIMEOUT_SECONDS = 5.0
_PAGE_SIZE = 1000


class Discovery:
    """Keeps the list of trainers; `found` is called when it has changed."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        store: LeaseStore,
        hop: Hop,
        found: Callable[[], None],
        poll_seconds: float,
    ) -> None:
        self._stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self._store = store
        self._hop = hop
        self._found = found
        self._poll_seconds = poll_seconds
        self._addresses: dict[str, str] = {}
        self._asked = asyncio.Event()
        # Trainers that the scheduler has given up, as of the last answer.
        self.lost: frozenset[str] = frozenset()

    def notice(self, entries: Iterable[Entry]) -> None:
        """Asks at once when an entry of the scheduler names a trainer that is not known."""
        for entry in entries:
            trainer = entry.state_change.trainer  # "" in other entries
            if trainer and trainer not in self._addresses:
                self._asked.set()

    async def run(self) -> None:
        """Asks now and then, and when something was noticed. Runs until cancelled."""
        while True:
            try:
                await self._look()
            except grpc.aio.AioRpcError as error:
                log.info("cannot list trainers", code=error.code().name)
            except Refusal as refusal:
                log.warning("cannot keep trainers", reason=refusal.message)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._poll_seconds)
                # Many entries may name the same new trainer.
                await asyncio.sleep(0.05)
            self._asked.clear()

    async def _look(self) -> None:
        trainers = await self._list()
        self.lost = frozenset(
            trainer.name for trainer in trainers if trainer.state == trainer_pb2.TRAINER_STATE_LOST
        )
        addresses = {trainer.name: trainer.address for trainer in trainers if trainer.address}
        changed = {
            name: address
            for name, address in addresses.items()
            if self._addresses.get(name) != address
        }
        if changed:
            await self._hop(self._store.know, changed)
            self._addresses.update(changed)
            self._found()

    async def _list(self) -> list[trainer_pb2.Trainer]:
        trainers: list[trainer_pb2.Trainer] = []
        page_token = ""
        while True:
            request = fleet_service_pb2.ListTrainersRequest(
                page_size=_PAGE_SIZE, page_token=page_token
            )
            page = await self._stub.ListTrainers(request, timeout=_CALL_TIMEOUT_SECONDS)
            trainers.extend(page.trainers)
            page_token = page.next_page_token
            if not page_token:
                return trainers
