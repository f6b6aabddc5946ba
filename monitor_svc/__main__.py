"""The monitor's process: the only reader of its environment, the only wiring."""

from __future__ import annotations

import asyncio
import sys
import uuid
from contextlib import suppress

import grpc.aio
import structlog
from sqlalchemy.exc import ArgumentError
from tunewright.v1 import monitor_service_pb2, monitor_service_pb2_grpc

from monitor_svc.config import MonitorConfig
from monitor_svc.hub import Hub
from monitor_svc.ingest.backoff import Backoff
from monitor_svc.ingest.ingest import Ingest
from monitor_svc.ingest.job_directory import SchedulerJobs
from monitor_svc.rpc.existence import Existence
from monitor_svc.rpc.servicer import MonitorServicer
from monitor_svc.storage.sql_store import SqlStore, open_sql_store
from svckit.channel import ChannelSecurity, open_channel
from svckit.config import fail_configuration, load_config
from svckit.database import Database
from svckit.log import configure_logging
from svckit.migrations import UnknownRevision
from svckit.refusal import Refusal
from svckit.server import Registration, RunningServer, announce_ready, start_server

log = structlog.get_logger()

_HEALTH_SECONDS = 1.0


def main() -> None:
    """Runs the monitor until SIGTERM or SIGINT."""
    config = load_config(MonitorConfig, sys.argv[1:])
    configure_logging(config.log_format, "monitor")
    asyncio.run(serve(config))


async def serve(config: MonitorConfig) -> None:
    """Serves until a signal, then drains: subscribers are told to go on elsewhere."""
    database, store, hub = await _open(config)
    scheduler = open_channel(config.scheduler, _security(config))
    jobs = SchedulerJobs(scheduler)
    existence = Existence(store, database.run, jobs, config.job_wait_seconds)
    servicer = MonitorServicer(hub, store, database.run, existence)
    running = await start_server(config, [_registration(servicer)])
    ingest = _ingest(config, running, database, store, hub)
    loops = asyncio.create_task(_run_all(ingest, hub, database, running))
    await running.set_serving(True)
    announce_ready(config, running)
    ended = asyncio.create_task(_until_signal(running))
    await asyncio.wait({ended, loops}, return_when=asyncio.FIRST_COMPLETED)
    hub.close()
    await running.stop()
    loops.cancel()
    with suppress(asyncio.CancelledError):
        await loops  # raises if one of the loops failed
    await scheduler.close()
    database.close()


async def _run_all(ingest: Ingest, hub: Hub, database: Database, running: RunningServer) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ingest.run())
        group.create_task(hub.run())
        group.create_task(_watch_health(database, running))


async def _until_signal(running: RunningServer) -> None:
    received = await running.wait_for_signal()
    log.info("going down", signal=received.name)


async def _open(config: MonitorConfig) -> tuple[Database, SqlStore, Hub]:
    """Store and hub; waits for a database that does not answer yet."""
    try:
        database = Database(config.database_url)
    except (ValueError, ArgumentError) as error:
        fail_configuration(str(error))
    backoff = Backoff(longest_seconds=5.0)
    while True:
        try:
            store = await database.run(open_sql_store, database)
            settings = config.hub_settings(is_shared=not database.is_sqlite)
            hub = Hub(store, database.run, settings)
            await hub.start()
            return database, store, hub
        except UnknownRevision as error:
            fail_configuration(f"database_url: {error}")
        except Refusal as refusal:
            log.warning("waiting for the database", reason=refusal.message)
            await asyncio.sleep(backoff.next_seconds())


def _registration(servicer: MonitorServicer) -> Registration:
    return Registration(
        monitor_service_pb2.DESCRIPTOR.services_by_name["MonitorService"],
        monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server,
        servicer,
    )


def _security(config: MonitorConfig) -> ChannelSecurity:
    return ChannelSecurity(config.tls_ca_file, config.peer_token_file)


def _ingest(
    config: MonitorConfig, running: RunningServer, database: Database, store: SqlStore, hub: Hub
) -> Ingest:
    security = _security(config)

    def connect(address: str) -> grpc.aio.Channel:
        return open_channel(address, security)

    return Ingest(
        config.ingest_settings(config.advertise_address or running.address, uuid.uuid4().hex),
        store,
        database.run,
        hub.publish,
        hub.catch_up,
        connect,
    )


async def _watch_health(database: Database, running: RunningServer) -> None:
    """SERVING while the database answers."""
    while True:
        await running.set_serving(await database.run(database.ping))
        await asyncio.sleep(_HEALTH_SECONDS)


if __name__ == "__main__":
    main()
