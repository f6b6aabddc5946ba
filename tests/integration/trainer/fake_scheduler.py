"""A scheduler as trainers see it: a real server with a registry that a test steers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from tunewright.v1 import registry_service_pb2 as pb
from tunewright.v1 import registry_service_pb2_grpc, spec_pb2
from tunewright.wire.reasons import Reason

from svckit.interceptors import ErrorInterceptor
from svckit.refusal import Refusal

Key = tuple[str, int]


class Stale(Refusal):
    reason = Reason.STALE_ATTEMPT


class Forbidden(Refusal):
    reason = Reason.FORBIDDEN_MOVE


@dataclass
class Word:
    """What the scheduler says; a test changes it at will."""

    database_uuid: str = "db-1"
    generation: int = 1
    assignments: dict[Key, pb.Assignment] = field(default_factory=dict)
    stops: dict[Key, pb.StopOrder] = field(default_factory=dict)
    stale: set[Key] = field(default_factory=set)
    forbidden: set[Key] = field(default_factory=set)
    acknowledges: bool = True
    register_again: bool = False


class FakeScheduler(registry_service_pb2_grpc.TrainerRegistryServiceServicer):
    """Keeps all that it was told."""

    def __init__(self) -> None:
        self.word = Word()
        self.registrations: list[pb.RegisterTrainerRequest] = []
        self.heartbeats: list[pb.HeartbeatRequest] = []
        self.reports: list[pb.RunStatus] = []
        self.grants: list[Key] = []
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(
            interceptors=[ErrorInterceptor()], options=[("grpc.so_reuseport", 0)]
        )
        registry_service_pb2_grpc.add_TrainerRegistryServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def assign(self, key: Key, spec: spec_pb2.JobSpec, **more: Any) -> None:
        job, attempt = key
        self.word.assignments[key] = pb.Assignment(
            job=f"jobs/{job}", attempt=attempt, spec=spec, **more
        )

    def order_stop(self, key: Key, mode: pb.StopMode.ValueType, grace_seconds: int = 5) -> None:
        job, attempt = key
        self.word.stops[key] = pb.StopOrder(
            job=f"jobs/{job}", attempt=attempt, mode=mode, grace=Duration(seconds=grace_seconds)
        )

    def said(self, key: Key, phase: pb.RunPhase.ValueType) -> Any:
        """The last that was reported or sent along of a run in this phase."""
        return self._last(key, lambda run: run.phase == phase)

    def ended(self, key: Key) -> Any:
        return self._last(key, lambda run: run.phase >= pb.RUN_PHASE_ENDED)

    def _last(self, key: Key, wanted: Callable[[pb.RunStatus], bool]) -> pb.RunStatus | None:
        sent = [run for beat in self.heartbeats for run in beat.runs] + self.reports
        found = [run for run in sent if _key(run) == key and wanted(run)]
        return found[-1] if found else None

    async def RegisterTrainer(  # noqa: N802
        self, request: pb.RegisterTrainerRequest, context: Any
    ) -> pb.RegisterTrainerResponse:
        self.registrations.append(request)
        self.word.register_again = False
        answer = pb.RegisterTrainerResponse(
            database_uuid=self.word.database_uuid, generation=self.word.generation
        )
        answer.heartbeat_interval.FromMilliseconds(100)
        answer.stale_runs.extend(_name(key) for key in self.word.stale)
        return answer

    async def Heartbeat(  # noqa: N802
        self, request: pb.HeartbeatRequest, context: Any
    ) -> pb.HeartbeatResponse:
        self.heartbeats.append(request)
        word = self.word
        started = {_key(run) for run in request.runs if run.phase >= pb.RUN_PHASE_RUNNING}
        ended = {_key(run) for run in request.runs if _is_final(run, word)}
        for key in ended:
            word.stops.pop(key, None)
        for key in started | ended:
            word.assignments.pop(key, None)
        return pb.HeartbeatResponse(
            database_uuid=word.database_uuid,
            generation=word.generation,
            assignments=list(word.assignments.values()),
            stops=list(word.stops.values()),
            acknowledged_runs=[_name(key) for key in ended] if word.acknowledges else [],
            register_again=word.register_again,
        )

    async def ReportRun(  # noqa: N802
        self, request: pb.ReportRunRequest, context: Any
    ) -> pb.ReportRunResponse:
        if _key(request.run) in self.word.stale:
            raise Stale("not the current attempt")
        self.reports.append(request.run)
        return pb.ReportRunResponse(
            database_uuid=self.word.database_uuid, generation=self.word.generation
        )

    async def BeginPublish(  # noqa: N802
        self, request: pb.BeginPublishRequest, context: Any
    ) -> pb.BeginPublishResponse:
        key = (request.job.removeprefix("jobs/"), request.attempt)
        if key in self.word.stale:
            raise Stale("not the current attempt")
        if key in self.word.forbidden:
            raise Forbidden("the job is CANCELLING")
        self.grants.append(key)
        return pb.BeginPublishResponse(
            database_uuid=self.word.database_uuid, generation=self.word.generation
        )


def _key(run: pb.RunStatus) -> Key:
    return run.job.removeprefix("jobs/"), run.attempt


def _name(key: Key) -> pb.RunKey:
    return pb.RunKey(job=f"jobs/{key[0]}", attempt=key[1])


def _is_final(run: pb.RunStatus, word: Word) -> bool:
    waits = run.outcome == pb.RUN_OUTCOME_COMPLETED and _key(run) not in word.forbidden
    return run.phase == pb.RUN_PHASE_PUBLISHED or (run.phase == pb.RUN_PHASE_ENDED and not waits)
