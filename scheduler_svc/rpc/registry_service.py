"""TrainerRegistryService: what trainers tell, and what they are answered."""

from collections.abc import Callable

import structlog
from tunewright.v1 import job_pb2, registry_service_pb2, registry_service_pb2_grpc
from tunewright.wire.names import job_name
from tunewright.wire.times import duration

from scheduler_svc.application.ports import Installation
from scheduler_svc.application.registry import Registry
from scheduler_svc.converters.runs import (
    assignment_message,
    heartbeat_of,
    key_message,
    publication_of,
    registration_of,
    report_of,
    stop_message,
)
from scheduler_svc.domain.run import RunKey
from scheduler_svc.hop import Hop
from scheduler_svc.rpc.changes import Changes
from scheduler_svc.rpc.context import Context

_UNKNOWN_RUNS_LOGGED_MAX = 20


class RegistryServicer(registry_service_pb2_grpc.TrainerRegistryServiceServicer):
    """Converts, and makes one hop to the use cases.

    `capacity` is called when something may have come free. A heartbeat calls
    that alone: nearly all of them change no record, and a feed need not look.
    """

    def __init__(
        self,
        registry: Registry,
        installation: Callable[[], Installation],
        hop: Hop,
        changes: Changes,
        capacity: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._installation = installation
        self._hop = hop
        self._changes = changes
        self._capacity = capacity
        self._unknown: dict[str, tuple[RunKey, ...]] = {}

    async def RegisterTrainer(  # noqa: N802 - the name is the contract's
        self, request: registry_service_pb2.RegisterTrainerRequest, context: Context
    ) -> registry_service_pb2.RegisterTrainerResponse:
        """Makes a trainer known under its new start."""
        registration = registration_of(request)
        answer = await self._hop(self._registry.register, registration)
        self._changes.announce()
        structlog.get_logger().info(
            "trainer registered",
            trainer=request.trainer,
            address=request.address,
            runs=len(request.runs),
        )
        self._tell_unknown(request.trainer, answer.unknown_runs)
        return registry_service_pb2.RegisterTrainerResponse(
            database_uuid=answer.installation.database_uuid,
            generation=answer.installation.generation,
            heartbeat_interval=duration(answer.heartbeat_seconds),
            stale_runs=[key_message(key) for key in answer.stale_runs],
            acknowledged_runs=[key_message(key) for key in answer.acknowledged_runs],
        )

    async def Heartbeat(  # noqa: N802 - the name is the contract's
        self, request: registry_service_pb2.HeartbeatRequest, context: Context
    ) -> registry_service_pb2.HeartbeatResponse:
        """Takes what is there, and repeats what is to be done."""
        beat = heartbeat_of(request)
        answer = await self._hop(self._registry.heartbeat, beat)
        self._capacity()
        self._tell_unknown(request.trainer, answer.unknown_runs)
        return registry_service_pb2.HeartbeatResponse(
            database_uuid=answer.installation.database_uuid,
            generation=answer.installation.generation,
            assignments=[assignment_message(run) for run in answer.assignments],
            stops=[stop_message(order) for order in answer.stops],
            acknowledged_runs=[key_message(key) for key in answer.acknowledged_runs],
            register_again=answer.register_again,
        )

    async def ReportRun(  # noqa: N802 - the name is the contract's
        self, request: registry_service_pb2.ReportRunRequest, context: Context
    ) -> registry_service_pb2.ReportRunResponse:
        """Records a run's start, end or publication."""
        reporter, report = report_of(request)
        state = await self._hop(self._registry.report_run, reporter, report)
        self._changes.announce()
        installation = self._installation()
        return registry_service_pb2.ReportRunResponse(
            database_uuid=installation.database_uuid,
            generation=installation.generation,
            state=job_pb2.JobState.Value(state.value),
        )

    async def BeginPublish(  # noqa: N802 - the name is the contract's
        self, request: registry_service_pb2.BeginPublishRequest, context: Context
    ) -> registry_service_pb2.BeginPublishResponse:
        """Gives the one grant to publish."""
        reporter, key = publication_of(request)
        await self._hop(self._registry.begin_publish, reporter, key)
        self._changes.announce()
        installation = self._installation()
        return registry_service_pb2.BeginPublishResponse(
            database_uuid=installation.database_uuid, generation=installation.generation
        )

    def _tell_unknown(self, trainer: str, runs: tuple[RunKey, ...]) -> None:
        """Logs what an empty or older database does not know; again only if it changes."""
        if runs == self._unknown.get(trainer, ()):
            return
        self._unknown[trainer] = runs
        if runs:
            named = [job_name(key.job_id) for key in runs]
            structlog.get_logger().warning(
                "trainer holds runs that this database does not know; they are left alone",
                trainer=trainer,
                jobs=named[:_UNKNOWN_RUNS_LOGGED_MAX],
                count=len(named),
            )
