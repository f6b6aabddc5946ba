"""TrainerService: what the scheduler and people ask of this host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio
from tunewright.v1 import (
    data_service_pb2,
    registry_service_pb2,
    trainer_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)

from trainer_svc.domain.authority import Authority
from trainer_svc.domain.refusals import NotRegistered, StaleGeneration, StaleIncarnation
from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.data_checks import DataChecks
from trainer_svc.supervisor.orders import check_order, start_order, stop_request
from trainer_svc.supervisor.status import status_of_run
from trainer_svc.supervisor.supervisor import Supervisor
from trainer_svc.supervisor.system_info import system_info

# Quoted: generic in the stubs, not at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class TrainerServicer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Converts, checks whose word it is, and asks the supervisor."""

    def __init__(
        self,
        supervisor: Supervisor,
        checks: DataChecks,
        trainer: str,
        incarnation: str,
        capabilities: trainer_pb2.TrainerCapabilities,
    ) -> None:
        self._supervisor = supervisor
        self._checks = checks
        self._trainer = trainer
        self._incarnation = incarnation
        self._capabilities = capabilities

    async def GetSystemInfo(  # noqa: N802 # the name on the wire
        self, request: trainer_service_pb2.GetSystemInfoRequest, context: Context
    ) -> trainer_service_pb2.SystemInfo:
        """What this host is."""
        supervisor = self._supervisor
        info = await asyncio.to_thread(
            system_info, self._trainer, supervisor.settings, supervisor.host, self._capabilities
        )
        info.gpus.extend(await supervisor.host.gpu_messages(supervisor.runs()))
        info.runs_active = len(supervisor.active())
        return info

    async def StartRun(  # noqa: N802 # the name on the wire
        self, request: trainer_service_pb2.StartRunRequest, context: Context
    ) -> registry_service_pb2.RunStatus:
        """Starts a run; starting twice is starting once."""
        self._check_authority(request.database_uuid, request.generation)
        if request.incarnation != self._incarnation:
            raise StaleIncarnation("assigned to an earlier start of this trainer")
        order = start_order(request.assignment, "assignment")
        run = await self._supervisor.start(order)
        return await self._status(run.key)

    async def StopRun(  # noqa: N802 # the name on the wire
        self, request: trainer_service_pb2.StopRunRequest, context: Context
    ) -> registry_service_pb2.RunStatus:
        """Stops a run; one not yet known will never start."""
        self._check_authority(request.database_uuid, request.generation)
        stop = stop_request(request.stop, "stop")
        run = await self._supervisor.stop(stop.key, stop.mode, stop.grace_seconds)
        return await self._status(run.key)

    async def ListRuns(  # noqa: N802 # the name on the wire
        self, request: trainer_service_pb2.ListRunsRequest, context: Context
    ) -> trainer_service_pb2.ListRunsResponse:
        """The runs in this workspace, newest first."""
        statuses = await self._supervisor.statuses(unacknowledged_only=False)
        newest = sorted(statuses, key=lambda one: one.start_time.ToNanoseconds(), reverse=True)
        return trainer_service_pb2.ListRunsResponse(runs=newest)

    async def CheckData(  # noqa: N802 # the name on the wire
        self, request: data_service_pb2.CheckDataRequest, context: Context
    ) -> AsyncIterator[data_service_pb2.CheckDataResponse]:
        """Checks the data of a job; ends with the call."""
        check = self._checks.admit(check_order(request))
        # Also where the call ends while it is not this code that waits.
        context.add_done_callback(lambda _: check.end_soon())  # type: ignore[arg-type] # the stubs want a class
        try:
            async for message in check.messages():
                yield message
        finally:
            await check.end()

    async def _status(self, key: RunKey) -> registry_service_pb2.RunStatus:
        run = self._supervisor.run(key)
        return await asyncio.to_thread(status_of_run, run, self._supervisor.workspace.uuid)

    def _check_authority(self, database_uuid: str, generation: int) -> None:
        bound = self._supervisor.authority
        if bound is None:
            raise NotRegistered("the scheduler has not answered yet", retry_delay_seconds=1.0)
        said = Authority(database_uuid, generation)
        if not bound.same_database(said) or not bound.yields_to(said):
            raise StaleGeneration(
                "this trainer is bound to another scheduler",
                metadata={
                    "database_uuid": bound.database_uuid,
                    "generation": str(bound.generation),
                },
            )
        if said != bound:
            self._supervisor.bind(said)
