"""A client of every service of a scheduler, and a trainer that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2_grpc
from tunewright.v1 import (
    feed_pb2_grpc,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    recipe_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
    spec_pb2,
    trainer_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)
from tunewright.wire.status import RichError, rich_error

from scheduler_svc.__main__ import Service
from scheduler_svc.config import SchedulerConfig
from tests.support.eventually import eventually

GIB = 1 << 30


@dataclass
class SchedulerHandle:
    """A running scheduler and stubs of all its services."""

    service: Service
    channel: grpc.aio.Channel
    jobs: job_service_pb2_grpc.JobServiceAsyncStub
    recipes: recipe_service_pb2_grpc.RecipeServiceAsyncStub
    fleet: fleet_service_pb2_grpc.FleetServiceAsyncStub
    registry: registry_service_pb2_grpc.TrainerRegistryServiceAsyncStub
    feed: feed_pb2_grpc.FeedServiceAsyncStub
    health: Any  # its published types do not have its methods

    async def state_of(self, name: str) -> str:
        """The job's state, as a name."""
        job = await self.jobs.GetJob(job_service_pb2.GetJobRequest(name=name))
        return job_pb2.JobState.Name(job.state)


def connect(service: Service, channel: grpc.aio.Channel) -> SchedulerHandle:
    """Stubs over one channel."""
    return SchedulerHandle(
        service,
        channel,
        job_service_pb2_grpc.JobServiceStub(channel),
        recipe_service_pb2_grpc.RecipeServiceStub(channel),
        fleet_service_pb2_grpc.FleetServiceStub(channel),
        registry_service_pb2_grpc.TrainerRegistryServiceStub(channel),
        feed_pb2_grpc.FeedServiceStub(channel),
        health_pb2_grpc.HealthStub(channel),
    )


@asynccontextmanager
async def running_scheduler(config: SchedulerConfig) -> AsyncIterator[SchedulerHandle]:
    """Started, serving, and stopped at the end."""
    service = await Service.start(config)
    try:
        async with grpc.aio.insecure_channel(service.address) as channel:
            yield connect(service, channel)
    finally:
        await service.stop()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for something that has to be asked for over the wire."""
    check: Callable[[], bool | Awaitable[bool]] = condition
    await eventually(check)


async def refusal_of(call: Awaitable[object]) -> RichError:
    """What a call that must fail was refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich_error(caught.value)


def a_job(output_dir: str = "runs/one", *, on_gpu: bool = False) -> job_pb2.Job:
    """A job that is good in every respect."""
    accelerator = spec_pb2.ACCELERATOR_GPU if on_gpu else spec_pb2.ACCELERATOR_CPU
    return job_pb2.Job(
        display_name="a job",
        labels={"team": "nlp"},
        spec=spec_pb2.JobSpec(
            model=spec_pb2.ModelSource(name="/models/tiny"),
            train_data=[spec_pb2.DataSource(source="/data/train.jsonl")],
            resources=spec_pb2.Resources(accelerator=accelerator),
            output_dir=output_dir,
        ),
    )


def creation(job: job_pb2.Job | None = None, **more: object) -> job_service_pb2.CreateJobRequest:
    """A CreateJobRequest."""
    request = job_service_pb2.CreateJobRequest(job=job if job is not None else a_job())
    for name, value in more.items():
        setattr(request, name, value)
    return request


@dataclass
class FakeTrainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Serves TrainerService for real, and only remembers what it was told."""

    trainer_id: str
    address: str = ""
    incarnation: str = "incarnation-1"
    started: list[trainer_service_pb2.StartRunRequest] = field(default_factory=list)
    stopped: list[trainer_service_pb2.StopRunRequest] = field(default_factory=list)
    sequence: int = 0

    @property
    def name(self) -> str:
        """ "trainers/{trainer}"."""
        return f"trainers/{self.trainer_id}"

    @classmethod
    @asynccontextmanager
    async def serving(cls, trainer_id: str) -> AsyncIterator[FakeTrainer]:
        """Listens on loopback until the end."""
        fake = cls(trainer_id)
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(fake, server)
        fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield fake
        finally:
            await server.stop(None)

    async def StartRun(  # noqa: N802 - the name is the contract's
        self, request: trainer_service_pb2.StartRunRequest, context: object
    ) -> registry_service_pb2.RunStatus:
        """Notes it."""
        self.started.append(request)
        return registry_service_pb2.RunStatus(
            job=request.assignment.job,
            attempt=request.assignment.attempt,
            phase=registry_service_pb2.RUN_PHASE_PREPARING,
        )

    async def StopRun(  # noqa: N802 - the name is the contract's
        self, request: trainer_service_pb2.StopRunRequest, context: object
    ) -> registry_service_pb2.RunStatus:
        """Notes it."""
        self.stopped.append(request)
        return registry_service_pb2.RunStatus(job=request.stop.job, attempt=request.stop.attempt)

    async def register(
        self, scheduler: SchedulerHandle
    ) -> registry_service_pb2.RegisterTrainerResponse:
        """Makes itself known, with one CPU slot and two GPUs of 24 GiB."""
        return await scheduler.registry.RegisterTrainer(
            registry_service_pb2.RegisterTrainerRequest(
                trainer=self.name,
                incarnation=self.incarnation,
                address=self.address,
                boot_id="boot-1",
                workspace_uuid=f"workspace-{self.trainer_id}",
                capabilities=trainer_pb2.TrainerCapabilities(
                    backends=[spec_pb2.BACKEND_QLORA],
                    cpu_slots=1,
                    version="0.1.0",
                    artifact_store="store",
                    missing_backends={"BACKEND_SWIFT": "ms-swift is not installed"},
                ),
                gpus=self.gpus(),
            )
        )

    def gpus(self) -> list[trainer_pb2.Gpu]:
        """Two of 24 GiB."""
        return [
            trainer_pb2.Gpu(gpu_id=str(index), uuid=f"GPU-{index}", memory_bytes_total=24 * GIB)
            for index in range(2)
        ]

    async def heartbeat(
        self, scheduler: SchedulerHandle, *runs: registry_service_pb2.RunStatus
    ) -> registry_service_pb2.HeartbeatResponse:
        """Says what is there."""
        self.sequence += 1
        return await scheduler.registry.Heartbeat(
            registry_service_pb2.HeartbeatRequest(
                trainer=self.name,
                incarnation=self.incarnation,
                sequence=self.sequence,
                gpus=self.gpus(),
                runs=runs,
            )
        )

    async def report(
        self, scheduler: SchedulerHandle, run: registry_service_pb2.RunStatus
    ) -> registry_service_pb2.ReportRunResponse:
        """Reports one run."""
        return await scheduler.registry.ReportRun(
            registry_service_pb2.ReportRunRequest(
                trainer=self.name, incarnation=self.incarnation, run=run
            )
        )
