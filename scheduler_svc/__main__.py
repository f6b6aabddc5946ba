"""The scheduler as a process: wires everything, starts it, and drains it.

`python -m scheduler_svc`. Exits with 0 after a drain, with 2 and one line if
the configuration is broken, with 1 and one line if the database stays away.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import structlog
from tunewright.v1 import (
    data_service_pb2,
    data_service_pb2_grpc,
    feed_pb2,
    feed_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    recipe_service_pb2,
    recipe_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

from scheduler_svc.application.scheduler import Scheduler, build
from scheduler_svc.config import SchedulerConfig
from scheduler_svc.gateways.trainers import TrainerGateway
from scheduler_svc.loops.dispatch import DispatchLoop
from scheduler_svc.loops.health import HealthLoop
from scheduler_svc.loops.loop import Loop
from scheduler_svc.loops.stops import StopLoop
from scheduler_svc.loops.upkeep import UpkeepLoop
from scheduler_svc.rpc.changes import Changes
from scheduler_svc.rpc.data_service import DataServicer
from scheduler_svc.rpc.feed_service import FeedServicer, FeedTimes
from scheduler_svc.rpc.fleet_service import FleetServicer
from scheduler_svc.rpc.job_service import JobServicer
from scheduler_svc.rpc.labels import RecordLimits
from scheduler_svc.rpc.recipe_service import RecipeServicer
from scheduler_svc.rpc.registry_service import RegistryServicer
from scheduler_svc.storage.schema import migrate
from scheduler_svc.storage.sql_store import SqlStore
from scheduler_svc.system import RandomIds, SystemClock
from svckit.channel import ChannelSecurity
from svckit.config import fail_configuration
from svckit.database import Database
from svckit.log import configure_logging
from svckit.migrations import UnknownRevision
from svckit.refusal import DatabaseBusy, DatabaseUnavailable
from svckit.server import Registration, RunningServer, announce_ready, start_server

EXIT_NO_DATABASE = 1
_DATABASE_RETRY_SECONDS = 0.5


class Service:
    """One scheduler, serving. Stop is safe to call twice."""

    def __init__(
        self,
        scheduler: Scheduler,
        database: Database,
        gateway: TrainerGateway,
        feed: FeedServicer,
        server: RunningServer,
        loops: Sequence[Loop],
    ) -> None:
        self.scheduler = scheduler
        self.server = server
        self._database = database
        self._gateway = gateway
        self._feed = feed
        self._loops = loops

    @property
    def address(self) -> str:
        """host:port that it listens on."""
        return self.server.address

    @classmethod
    async def start(cls, config: SchedulerConfig) -> Service:
        """Opens the database, takes the lead, serves. Exits as the module says."""
        database = _open(config)
        scheduler = await _lead(config, database)
        service = await _wired(config, database, scheduler)
        await service.start_loops()
        return service

    async def start_loops(self) -> None:
        """Begins what the scheduler does by itself. Safe to call twice."""
        for loop in self._loops:
            await loop.start()

    async def stop(self) -> None:
        """Ends streams, drains calls, lets what the loops do come to its end."""
        self._feed.close()
        await self.server.stop()
        for loop in self._loops:
            await loop.stop()
        await self._gateway.close()
        self._database.close()


def _open(config: SchedulerConfig) -> Database:
    try:
        return Database(config.database_url)
    except ValueError as error:
        fail_configuration(str(error))


async def _lead(config: SchedulerConfig, database: Database) -> Scheduler:
    """Migrates, and takes the lead; waits a while for a database that is not up yet."""
    scheduler = build(SqlStore(database), SystemClock(), RandomIds(), config.settings())
    deadline = asyncio.get_running_loop().time() + config.database_wait_seconds
    while True:
        try:
            await database.run(_prepare, database, scheduler)
        except UnknownRevision as error:
            fail_configuration(f"database_url: {error}")
        except (DatabaseBusy, DatabaseUnavailable) as refusal:
            if asyncio.get_running_loop().time() >= deadline:
                print(f"tunewright-scheduler: {refusal.message}", file=sys.stderr)
                raise SystemExit(EXIT_NO_DATABASE) from None
            await asyncio.sleep(_DATABASE_RETRY_SECONDS)
        else:
            return scheduler


def _prepare(database: Database, scheduler: Scheduler) -> None:
    if not database.ping():
        raise DatabaseUnavailable("the database cannot be reached")
    migrate(database)
    scheduler.lead.take_lead()


async def _wired(config: SchedulerConfig, database: Database, scheduler: Scheduler) -> Service:
    changes = Changes()
    security = ChannelSecurity(config.tls_ca_file, config.peer_token_file)
    gateway = TrainerGateway(security, config.trainer_call_seconds_max)
    stops = StopLoop(scheduler.orders, scheduler.lead, database.run, gateway)
    dispatch = DispatchLoop(
        scheduler.dispatch,
        scheduler.lead,
        database.run,
        gateway,
        changes.announce,
        config.dispatch_tick_seconds,
    )
    changes.listen(dispatch.loop.wake)
    upkeep = UpkeepLoop(
        scheduler.upkeep, database.run, changes.announce, stops.push, config.upkeep_tick_seconds
    )
    times = FeedTimes(config.feed_poll_seconds, config.feed_keepalive_seconds)
    feed = FeedServicer(scheduler.feed, scheduler.lead, database.run, changes, times)
    jobs = JobServicer(
        scheduler.jobs,
        scheduler.lead,
        database.run,
        changes,
        stops.push,
        _record_limits(config),
        config.page_max,
    )
    registry = RegistryServicer(
        scheduler.registry,
        lambda: scheduler.lead.installation,
        database.run,
        changes,
        dispatch.loop.wake,
    )
    fleet = FleetServicer(scheduler.fleet, scheduler.lead, database.run, changes, config.page_max)
    recipes = RecipeServicer(scheduler.recipes, scheduler.lead, database.run, config.page_max)
    data = DataServicer(scheduler.data_checks, database.run, gateway.check_data)
    servicers = _registrations(jobs, data, recipes, fleet, registry, feed)
    server = await start_server(config, servicers)
    health = HealthLoop(database.ping, database.run, server.set_serving, config.health_tick_seconds)
    loops = (health.loop, dispatch.loop, stops.loop, upkeep.loop)
    return Service(scheduler, database, gateway, feed, server, loops)


def _record_limits(config: SchedulerConfig) -> RecordLimits:
    return RecordLimits(
        config.labels_max, config.label_value_characters_max, config.display_name_characters_max
    )


def _registrations(
    jobs: JobServicer,
    data: DataServicer,
    recipes: RecipeServicer,
    fleet: FleetServicer,
    registry: RegistryServicer,
    feed: FeedServicer,
) -> list[Registration]:
    return [
        Registration(
            job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
            job_service_pb2_grpc.add_JobServiceServicer_to_server,
            jobs,
        ),
        Registration(
            data_service_pb2.DESCRIPTOR.services_by_name["DataService"],
            data_service_pb2_grpc.add_DataServiceServicer_to_server,
            data,
        ),
        Registration(
            recipe_service_pb2.DESCRIPTOR.services_by_name["RecipeService"],
            recipe_service_pb2_grpc.add_RecipeServiceServicer_to_server,
            recipes,
        ),
        Registration(
            fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"],
            fleet_service_pb2_grpc.add_FleetServiceServicer_to_server,
            fleet,
        ),
        Registration(
            registry_service_pb2.DESCRIPTOR.services_by_name["TrainerRegistryService"],
            registry_service_pb2_grpc.add_TrainerRegistryServiceServicer_to_server,
            registry,
        ),
        Registration(
            feed_pb2.DESCRIPTOR.services_by_name["FeedService"],
            feed_pb2_grpc.add_FeedServiceServicer_to_server,
            feed,
        ),
    ]


async def serve(config: SchedulerConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    service = await Service.start(config)
    await service.server.set_serving(True)
    announce_ready(config, service.server)
    received = await service.server.wait_for_signal()
    structlog.get_logger().info("draining", signal=received.name)
    await service.stop()


def main(argv: Sequence[str] | None = None) -> None:
    """The process."""
    config = SchedulerConfig.load(sys.argv[1:] if argv is None else argv)
    configure_logging(config.log_format, "scheduler")
    asyncio.run(serve(config))


if __name__ == "__main__":
    main()
