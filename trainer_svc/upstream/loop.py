"""The trainer's line to its scheduler: register, then a heartbeat each interval.

An outage changes nothing here but who hears of it: no run is stopped, and
what ended meanwhile is reported when the scheduler is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog
from tunewright.v1 import registry_service_pb2 as pb
from tunewright.v1 import trainer_pb2
from tunewright.wire.times import seconds_of

from svckit.refusal import Refusal
from trainer_svc.domain.authority import Authority
from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.orders import run_key, start_order, stop_request
from trainer_svc.supervisor.processes import boot_id
from trainer_svc.supervisor.supervisor import Supervisor
from trainer_svc.upstream.backoff import delays
from trainer_svc.upstream.registry import Outage, RegistryClient, Unknown
from trainer_svc.upstream.reports import Reports

_REGISTER_RETRY_SECONDS = 0.5
_REGISTER_RETRY_SECONDS_MAX = 15.0


@dataclass(frozen=True)
class Identity:
    """Who this trainer is: its name, this start of it, where it is reached, what it can do."""

    trainer: str
    incarnation: str
    address: str
    capabilities: trainer_pb2.TrainerCapabilities


class Upstream:
    """Keeps the scheduler informed and carries out what it answers."""

    def __init__(
        self,
        supervisor: Supervisor,
        client: RegistryClient,
        identity: Identity,
        heartbeat_interval_seconds: float,
    ) -> None:
        self._supervisor = supervisor
        self._client = client
        self._identity = identity
        self._interval_seconds = heartbeat_interval_seconds
        self._sequence = 0
        self._wake = asyncio.Event()
        self._reports = Reports(
            supervisor, client, (identity.trainer, identity.incarnation), self._wake.set
        )

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reports.run())
            tasks.create_task(self._keep_line())

    async def _keep_line(self) -> None:
        while True:
            try:
                await self._register()
                while self._reports.registered.is_set():
                    await self._beat()
                    await self._pause()
            except Exception:
                # A full disk, or a mistake of ours, must not take the line down for good.
                structlog.get_logger().exception("the line to the scheduler broke")
                await self._pause()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_seconds):
                await self._wake.wait()

    async def _register(self) -> None:
        """Asks until it is answered. Nothing is spawned or published before."""
        self._wake.clear()
        pauses = delays(_REGISTER_RETRY_SECONDS, _REGISTER_RETRY_SECONDS_MAX, random.Random())  # noqa: S311 # jitter
        said = False
        while True:
            try:
                answer = await self._client.register(await self._registration())
                if await self._accept(answer):
                    return
            except Outage as outage:
                if not said:  # one line for an outage, however long
                    structlog.get_logger().warning("scheduler does not answer", why=str(outage))
                    said = True
            await asyncio.sleep(next(pauses))

    async def _registration(self) -> pb.RegisterTrainerRequest:
        supervisor, identity = self._supervisor, self._identity
        bound = supervisor.workspace.authority()
        return pb.RegisterTrainerRequest(
            trainer=identity.trainer,
            incarnation=identity.incarnation,
            address=identity.address,
            boot_id=boot_id(),
            capabilities=identity.capabilities,
            gpus=await supervisor.host.gpu_messages(supervisor.runs()),
            runs=await supervisor.statuses(unacknowledged_only=True),
            workspace_uuid=supervisor.workspace.uuid,
            database_uuid=bound.database_uuid if bound else "",
        )

    async def _accept(self, answer: pb.RegisterTrainerResponse) -> bool:
        authority = Authority(answer.database_uuid, answer.generation)
        before = self._supervisor.workspace.authority()
        if before is not None and not before.yields_to(authority):
            structlog.get_logger().warning("answered by a scheduler that was replaced")
            return False
        if answer.HasField("heartbeat_interval"):
            self._interval_seconds = seconds_of(answer.heartbeat_interval)
        for stale in _keys(answer.stale_runs):
            await self._supervisor.fence(stale)
        self._supervisor.bind(authority)
        self._acknowledge(answer.acknowledged_runs)
        self._reports.registered.set()
        self._supervisor.forget_reports()
        structlog.get_logger().info("registered", trainer=self._identity.trainer)
        return True

    async def _beat(self) -> None:
        try:
            answer = await self._client.heartbeat(await self._heartbeat())
        except Unknown:
            self._reports.registered.clear()
            return
        except Outage as outage:
            structlog.get_logger().info("heartbeat not answered", why=str(outage))
            return
        await self._obey(answer)

    async def _heartbeat(self) -> pb.HeartbeatRequest:
        supervisor = self._supervisor
        self._sequence += 1
        usage = await asyncio.to_thread(shutil.disk_usage, supervisor.settings.workspace)
        return pb.HeartbeatRequest(
            trainer=self._identity.trainer,
            incarnation=self._identity.incarnation,
            gpus=await supervisor.host.gpu_messages(supervisor.runs()),
            runs=await supervisor.statuses(unacknowledged_only=True),
            disk_bytes_free=usage.free,
            sequence=self._sequence,
        )

    async def _obey(self, answer: pb.HeartbeatResponse) -> None:
        said = Authority(answer.database_uuid, answer.generation)
        bound = self._supervisor.authority
        if bound is None or not bound.same_database(said) or answer.register_again:
            self._reports.registered.clear()
            return
        if not bound.yields_to(said):
            return
        if said != bound:
            self._supervisor.bind(said)
        self._acknowledge(answer.acknowledged_runs)
        for stop in answer.stops:
            await self._stop(stop)
        for assignment in answer.assignments:
            await self._start(assignment)

    async def _stop(self, stop: pb.StopOrder) -> None:
        try:
            order = stop_request(stop, "stops")
            await self._supervisor.stop(order.key, order.mode, order.grace_seconds)
        except (Refusal, OSError) as error:
            structlog.get_logger().warning("stop not carried out", job=stop.job, why=str(error))

    async def _start(self, assignment: pb.Assignment) -> None:
        """One that cannot start now is repeated with the next answer."""
        try:
            await self._supervisor.start(start_order(assignment, "assignments"))
        except (Refusal, OSError) as error:
            structlog.get_logger().warning("not started", job=assignment.job, why=str(error))

    def _acknowledge(self, names: Iterable[pb.RunKey]) -> None:
        self._supervisor.acknowledge(_keys(names))


def _keys(names: Iterable[pb.RunKey]) -> Iterator[RunKey]:
    """What an answer names; a name that is none is logged and passed over."""
    for one in names:
        try:
            yield run_key(one.job, one.attempt, "answer")
        except Refusal as refusal:
            structlog.get_logger().warning("not a run", why=refusal.message)
