"""A scheduler process: production's use cases, servicers and loops over a simulated database."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tunewright.v1 import feed_pb2, trainer_service_pb2

from scheduler_svc.application.scheduler import Scheduler, build
from scheduler_svc.application.settings import Settings
from scheduler_svc.converters.runs import assignment_message, stop_message
from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.run import AssignedRun, StopOrder
from scheduler_svc.loops.dispatch import DispatchLoop
from scheduler_svc.loops.stops import StopLoop
from scheduler_svc.loops.upkeep import UpkeepLoop
from scheduler_svc.rpc.changes import Changes
from scheduler_svc.rpc.feed_service import FeedServicer, FeedTimes
from scheduler_svc.rpc.fleet_service import FleetServicer
from scheduler_svc.rpc.job_service import JobServicer
from scheduler_svc.rpc.labels import RecordLimits
from scheduler_svc.rpc.registry_service import RegistryServicer
from svckit.refusal import Refusal
from tests.simulation.database import SimStore
from tests.simulation.network import CallFailed, Handler, Network
from tests.simulation.virtual_time import Process
from tests.simulation.wall import WallClock

SETTINGS = Settings(
    heartbeat_seconds=5.0,
    suspect_after_seconds=16.0,
    lost_after_seconds=45.0,
    reservation_after_seconds=60.0,
    backoff_seconds_max=10.0,
    flush_after_seconds=15.0,
)
_DISPATCH_TICK_SECONDS = 5.0
_UPKEEP_TICK_SECONDS = 2.0
_CALL_SECONDS_MAX = 3.0
_SERVICE = "/tunewright.v1."


class SimIds:
    """Names from the schedule's own chance."""

    def __init__(self, rng: random.Random, taken: Callable[[], int]) -> None:
        self._rng = rng
        self._taken = taken

    def new_job_id(self) -> str:
        return f"j{self._taken()}-{self._rng.getrandbits(32):08x}"

    def new_uuid(self) -> str:
        return f"db-{self._rng.getrandbits(64):016x}"


class _Calls:
    """Starts and stops, said to trainers: a call that fails is forgotten."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    def start_run(
        self, address: str, incarnation: str, database_uuid: str, generation: int, run: AssignedRun
    ) -> None:
        request = trainer_service_pb2.StartRunRequest(
            database_uuid=database_uuid,
            generation=generation,
            incarnation=incarnation,
            assignment=assignment_message(run),
        )
        self._say(address, "StartRun", request)

    def stop_run(self, address: str, database_uuid: str, generation: int, order: StopOrder) -> None:
        request = trainer_service_pb2.StopRunRequest(
            database_uuid=database_uuid, generation=generation, stop=stop_message(order)
        )
        self._say(address, "StopRun", request)

    def _say(self, address: str, method: str, request: Any) -> None:
        node = address.partition(":")[0]
        self._process.spawn(self._call(node, f"{_SERVICE}TrainerService/{method}", request))

    async def _call(self, node: str, method: str, request: Any) -> None:
        with suppress(CallFailed):
            await self._network.call(
                self._process, "scheduler", node, method, request, _CALL_SECONDS_MAX
            )


class SchedulerService:
    """One start of the service."""

    def __init__(
        self,
        store: SimStore,
        process: Process,
        network: Network,
        wall: WallClock,
        ids: SimIds,
        wrap: Callable[[Scheduler], Scheduler],
    ) -> None:
        self._process = process
        self._network = network
        self.scheduler = wrap(build(store, wall, ids, SETTINGS))
        process.spawn(self._serve(), "scheduler service")

    async def _hop(self, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        return function(*args, **more)

    async def _serve(self) -> None:
        scheduler, hop = self.scheduler, self._hop
        scheduler.lead.take_lead()
        changes = Changes()
        calls = _Calls(self._network, self._process)
        stops = StopLoop(scheduler.orders, scheduler.lead, hop, calls)
        dispatch = DispatchLoop(
            scheduler.dispatch,
            scheduler.lead,
            hop,
            calls,
            changes.announce,
            _DISPATCH_TICK_SECONDS,
        )
        changes.listen(dispatch.loop.wake)
        upkeep = UpkeepLoop(
            scheduler.upkeep, hop, changes.announce, stops.push, _UPKEEP_TICK_SECONDS
        )
        self._listen(changes, stops, dispatch)
        for loop in (dispatch.loop, stops.loop, upkeep.loop):
            await loop.start()

    def _listen(self, changes: Changes, stops: StopLoop, dispatch: DispatchLoop) -> None:
        scheduler, hop = self.scheduler, self._hop
        jobs = JobServicer(
            scheduler.jobs, scheduler.lead, hop, changes, stops.push, RecordLimits(), 1000
        )
        registry = RegistryServicer(
            scheduler.registry,
            lambda: scheduler.lead.installation,
            hop,
            changes,
            dispatch.loop.wake,
        )
        fleet = FleetServicer(scheduler.fleet, scheduler.lead, hop, changes, 1000)
        self._feed = FeedServicer(scheduler.feed, scheduler.lead, hop, changes, FeedTimes())
        handlers: dict[str, Handler] = {"pull": self._pull}
        handlers[f"{_SERVICE}FeedService/AckFeed"] = self._feed.AckFeed
        for service, servicer, verbs in (
            ("TrainerRegistryService", registry, _REGISTRY),
            ("JobService", jobs, _JOBS),
            ("FleetService", fleet, _FLEET),
        ):
            for verb in verbs:
                handlers[f"{_SERVICE}{service}/{verb}"] = getattr(servicer, verb)
        self._network.listen("scheduler", self._process, handlers)

    async def _pull(self, request: feed_pb2.StreamFeedRequest, _context: Any) -> Any:
        """One turn of StreamFeed."""
        feed = self.scheduler.feed
        feed.announce(request.reader, request.reader_address, request.epoch)
        entries = feed.after(self._feed._position(request.cursors) or 0, 64)
        return list(self._feed._batches(entries))


_REGISTRY = ("RegisterTrainer", "Heartbeat", "ReportRun", "BeginPublish")
_JOBS = (
    "CreateJob",
    "StartJob",
    "GetJob",
    "UpdateJob",
    "CancelJob",
    "PauseJob",
    "ResumeJob",
    "RetryJob",
    "DeleteJob",
    "AbandonJob",
)
_FLEET = ("ListTrainers", "CordonTrainer", "UncordonTrainer")


class Interlopers:
    """Other clients' verbs, committed between a read and the guarded write that follows it."""

    def __init__(self, rng: random.Random, note: Callable[[str, JobId], None]) -> None:
        self._rng = rng
        self._note = note
        self.chance = 0.0

    def come_between(self, scheduler: Scheduler, job_id: JobId) -> None:
        """A cancel, a pause or a resume of that very job, rarely."""
        if self._rng.random() >= self.chance:
            return
        verb = self._rng.choice(("cancel", "pause", "resume"))
        with suppress(Refusal):
            getattr(scheduler.jobs, verb)(job_id)
            self._note(verb, job_id)
