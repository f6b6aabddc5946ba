"""A trainer service on a simulated host: production's supervisor, upstream and servicers.

Owns the wiring and the few lines of production that ask this machine's kernel:
who is alive, signals, the boot id, the watch over a shim. Everything that is
decided is decided by production code.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tunewright.v1 import feed_pb2, spec_pb2, trainer_pb2
from tunewright.v1 import registry_service_pb2 as pb

from tests.simulation.host import Host, Training
from tests.simulation.network import Channel, Handler, Network
from tests.simulation.run_disk import Runs, SimFolder, SimWorkspace, read_batch, spec_json
from tests.simulation.virtual_time import Process
from trainer_svc.domain.classify import EndFacts, classify
from trainer_svc.domain.failure_messages import HINTS
from trainer_svc.domain.runs import Cause, Ending, RunKey, RunOutcome, RunPhase
from trainer_svc.domain.slots import Capacity
from trainer_svc.rpc.feed_service import FeedServicer, _Reading
from trainer_svc.rpc.trainer_service import TrainerServicer
from trainer_svc.supervisor import feed_batches, publication, spawn, starting, trees
from trainer_svc.supervisor.background import Background
from trainer_svc.supervisor.data_checks import DataChecks
from trainer_svc.supervisor.gpus import GpuReading
from trainer_svc.supervisor.life import RunLife, publication_failure, publication_of
from trainer_svc.supervisor.processes import Identity
from trainer_svc.supervisor.publication import StagedResultInvalid
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.starting import StartOrder, StartProblem
from trainer_svc.supervisor.supervisor import Supervisor
from trainer_svc.upstream.loop import Identity as TrainerIdentity
from trainer_svc.upstream.loop import Upstream
from trainer_svc.upstream.registry import RegistryClient

_POLL_SECONDS = 0.25
_COLLECT_SECONDS = 15.0
_CALL_SECONDS_MAX = 3.0
_OUTPUTS = Path("/simulated/outputs")

SETTINGS = Settings(
    workspace=Path("/simulated/workspace"),
    artifacts=Path("/simulated/artifacts"),
    outputs=_OUTPUTS,
    stop_grace_seconds=8.0,
    fence_grace_seconds=3.0,
    stop_margin_seconds=3.0,
    run_retention_seconds=1e12,
)


class SimLife(RunLife):
    """Watches simulated processes."""

    def __init__(self, host: Host, inner: RunLife) -> None:
        super().__init__(inner._settings, inner._uuid, inner._gpus, inner._changed)
        self._host = host

    async def _until_gone(self, run: Run) -> None:
        while True:
            shim = run.folder.shim()
            if shim is not None and self._host.is_alive(shim):
                await self._note_running(run, shim)
                await self._wait_gone(shim)
            elif run.folder.exit() is None and shim is None and run.folder.lock_is_held():
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    async def _wait_gone(self, shim: Identity) -> None:
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        self._host.when_gone(shim, partial(loop.call_soon, _settle, gone))
        await gone

    async def _note_running(self, run: Run, shim: Identity) -> None:
        while run.phase is RunPhase.PREPARING and self._host.is_alive(shim):
            if run.folder.child() is not None:
                run.phase = RunPhase.RUNNING
                self._changed(run)
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _classified(self, run: Run) -> Ending:
        folder = run.folder
        stop, shim = folder.stop(), folder.shim()
        rebooted = shim is not None and shim.boot_id != self._host.boot_id
        facts = EndFacts(
            exit=folder.exit(),
            result=folder.result(),
            stop=stop.mode if stop else None,
            lost="the host was restarted while it ran" if rebooted else "",
        )
        ending = classify(facts)
        return self._verified(run) if ending.outcome is RunOutcome.COMPLETED else ending

    def _verified(self, run: Run) -> Ending:
        if self._host.outputs.is_whole(publication_of(self._settings, run)):
            return Ending(RunOutcome.COMPLETED)
        return Ending.failed(publication_failure(StagedResultInvalid("no result is staged")))


class SimSupervisor(Supervisor):
    """The supervisor, with the simulated host below it."""

    def __init__(self, host: Host, process: Process, port: Any) -> None:
        super().__init__(SETTINGS, SimWorkspace(host, process), port)
        self._sim_host = host
        self._life = SimLife(host, self._life)
        self._runs = Runs()

    def _begin_stop(self, run: Run) -> None:
        if run.stopper is not None:
            run.stopper.cancel()
        run.stopper = asyncio.create_task(self._carry_out(run))

    async def _carry_out(self, run: Run) -> None:
        """As trainer_svc.supervisor.stopping.carry_out_stop."""
        stop = run.folder.stop()
        if stop is None:
            return
        while run.holds_slot and run.life is not None and not run.life.done():
            if run.folder.shim() is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
        shim = run.folder.shim()
        if shim is not None and run.folder.lock_is_held():
            self._sim_host.terminate(shim)
        begin, bound = self._sim_host.world.now, stop.grace_seconds + SETTINGS.stop_margin_seconds
        while run.holds_slot:
            if self._sim_host.world.now - begin > bound:
                await asyncio.to_thread(trees.end_tree, self._life.signs(run))
                return
            if shim is None or not self._sim_host.is_alive(shim):
                return
            await asyncio.sleep(_POLL_SECONDS)


class SimUpstream(Upstream):
    """The line to the scheduler, from a host with a boot id of its own."""

    host: Host

    async def _registration(self) -> pb.RegisterTrainerRequest:
        request = await super()._registration()
        request.boot_id = self.host.boot_id
        return request


class _HostPort:
    """What trainer_svc.supervisor.host.Host tells of a machine."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.gpus = self

    def read(self) -> Sequence[GpuReading]:
        return ()

    async def capacity(self, runs: Sequence[Run]) -> Capacity:
        return Capacity(self._host.cpu_slots, dict.fromkeys(self._host.gpu_ids, ()))

    async def gpu_messages(self, runs: Sequence[Run]) -> Sequence[trainer_pb2.Gpu]:
        return [
            trainer_pb2.Gpu(gpu_id=gpu_id, memory_bytes_total=24 << 30, uuid=f"gpu-{gpu_id}")
            for gpu_id in self._host.gpu_ids
        ]


class TrainerService:
    """One start of the service."""

    upstream_class: type[SimUpstream] = SimUpstream

    def __init__(
        self,
        host: Host,
        process: Process,
        network: Network,
        incarnation: str,
        training: Callable[[RunKey], Training],
        upstream_class: type[SimUpstream],
    ) -> None:
        self._host = host
        self._process = process
        self._training = training
        self._folders: dict[Path, RunKey] = {}
        process.os_calls = self._os_calls()
        name = f"trainers/{host.name}"
        capabilities = trainer_pb2.TrainerCapabilities(
            backends=[spec_pb2.BACKEND_QLORA],
            cpu_slots=host.cpu_slots,
            artifact_store=host.store.name,
        )
        port = _HostPort(host)
        self.supervisor = SimSupervisor(host, process, port)
        channel: Any = Channel(network, process, host.name, "scheduler")
        client = RegistryClient(channel, _CALL_SECONDS_MAX)
        identity = TrainerIdentity(name, incarnation, f"{host.name}:7402", capabilities)
        self._upstream = upstream_class(self.supervisor, client, identity, 5.0)
        self._upstream.host = host
        self._feed = FeedServicer(self.supervisor, 15.0)
        checks = DataChecks(name, self.supervisor.settings, self.supervisor.workspace.uuid)
        calls = TrainerServicer(self.supervisor, checks, name, incarnation, capabilities)
        self._handlers: dict[str, Handler] = {
            "/tunewright.v1.TrainerService/StartRun": calls.StartRun,
            "/tunewright.v1.TrainerService/StopRun": calls.StopRun,
            "/tunewright.v1.FeedService/AckFeed": self._feed.AckFeed,
            "pull": self._pull,
        }
        network.listen(host.name, process, self._handlers)
        process.spawn(self._serve(), "trainer service")

    async def _serve(self) -> None:
        await self.supervisor.open()
        self._process.spawn(self._upstream.run(), "upstream")
        collector = Background(self.supervisor)
        while True:
            await asyncio.sleep(_COLLECT_SECONDS)
            await collector.collect()

    async def _pull(self, request: feed_pb2.StreamFeedRequest, _context: Any) -> Any:
        """One turn of StreamFeed: what follows the reader's cursors."""
        self._feed._admit(request.epoch)
        source = self.supervisor.workspace.uuid
        reading = _Reading(
            {one.stream: one.position for one in request.cursors if one.source == source}
        )
        return [batch async for batch in self._feed._turn(reading, source)]

    # --- the operating system, as the service's threads see it

    def _os_calls(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        return {
            spawn.spawn_shim: self._spawn,
            trees.end_tree: self._end_tree,
            starting.prepare: self._prepare,
            publication.move_into_place: self._move,
            feed_batches.read_batch: read_batch,
            shutil.rmtree: lambda *_args, **_more: None,
            shutil.disk_usage: lambda _path: SimpleNamespace(free=1 << 40),
        }

    def _spawn(self, path: Path, _marker: str) -> Any:
        key = RunKey(path.parts[-2], int(path.parts[-1]))
        tree = self._host.spawn(key, self._training(key))
        return SimpleNamespace(
            poll=lambda: tree.exit_code, wait=lambda: tree.exit_code, kill=tree.kill_all
        )

    def _end_tree(self, signs: trees.TreeSigns) -> bool:
        _, job_id, attempt = signs.marker.split("/")
        return self._host.end_tree(RunKey(job_id, int(attempt)))

    def _prepare(
        self, _settings: Settings, _uuid: str, folder: SimFolder, order: StartOrder
    ) -> None:
        folder.write_spec(spec_json(order.spec, tuple(order.gpu_ids), resume=order.resume))
        if order.spec.output_dir in self._host.outputs.results:
            cause = Cause.OUTPUT_INVALID
            raise StartProblem(cause, f"output_dir is taken {HINTS[cause][:0]}")

    def _move(self, to_publish: publication.Publication) -> None:
        self._host.outputs.move_into_place(self._host.name, to_publish)


def _settle(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)
