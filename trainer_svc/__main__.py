"""The trainer service: the only place where its parts are put together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import structlog
from tunewright.v1 import (
    feed_pb2,
    feed_pb2_grpc,
    trainer_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)
from tunewright.wire.names import trainer_name

from svckit.channel import ChannelSecurity, open_channel
from svckit.config import fail_configuration, load_config
from svckit.log import configure_logging
from svckit.server import Registration, RunningServer, announce_ready, start_server
from trainer_svc.config import TrainerConfig
from trainer_svc.domain.command import CommandTable
from trainer_svc.rpc.feed_service import FeedServicer
from trainer_svc.rpc.trainer_service import TrainerServicer
from trainer_svc.supervisor.artifact_store import artifact_store_uuid
from trainer_svc.supervisor.background import Background
from trainer_svc.supervisor.data_checks import DataChecks
from trainer_svc.supervisor.gpus import GpuInventory, find_gpus
from trainer_svc.supervisor.host import Host
from trainer_svc.supervisor.processes import boot_id, use_boot_id_file
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.supervisor import Supervisor
from trainer_svc.supervisor.system_info import capabilities_of
from trainer_svc.supervisor.workspace import Workspace, WorkspaceLocked
from trainer_svc.upstream.loop import Identity, Upstream
from trainer_svc.upstream.registry import RegistryClient


def main(
    argv: Sequence[str] | None = None,
    commands: CommandTable | None = None,
    gpus: GpuInventory | None = None,
) -> None:
    """Runs the service until SIGTERM or SIGINT. Its children live on.

    `commands` replaces the table of backends, `gpus` the inventory.
    """
    config = load_config(TrainerConfig, sys.argv[1:] if argv is None else argv)
    configure_logging(config.log_format, "trainer")
    use_boot_id_file(config.boot_id_file.expanduser().resolve())
    try:
        boot_id()
        settings = config.settings(commands)
        workspace = Workspace.open(settings.workspace)
        artifact_store = artifact_store_uuid(settings.artifacts)
    except (OSError, WorkspaceLocked) as error:
        fail_configuration(str(error))
    host = Host(find_gpus() if gpus is None else gpus, settings.cpu_slots, workspace.uuid)
    try:
        asyncio.run(_serve(config, settings, workspace, host, artifact_store))
    finally:
        workspace.close()


async def _serve(
    config: TrainerConfig,
    settings: Settings,
    workspace: Workspace,
    host: Host,
    artifact_store: str,
) -> None:
    supervisor = Supervisor(settings, workspace, host)
    capacity = await host.capacity([])
    capabilities = capabilities_of(settings, capacity.cpu_slots, artifact_store)
    incarnation = workspace.incarnation()
    checks = DataChecks(trainer_name(config.name), settings, workspace.uuid)
    checks.open()
    running = await start_server(
        config, _registrations(config, supervisor, checks, incarnation, capabilities)
    )
    await supervisor.open()
    identity = Identity(
        trainer_name(config.name),
        incarnation,
        config.advertise_address or running.address,
        capabilities,
    )
    await _run_until_signal(config, supervisor, checks, running, identity)


async def _run_until_signal(
    config: TrainerConfig,
    supervisor: Supervisor,
    checks: DataChecks,
    running: RunningServer,
    identity: Identity,
) -> None:
    try:
        security = ChannelSecurity(config.tls_ca_file, config.peer_token_file)
        channel = open_channel(config.scheduler, security)
    except OSError as error:
        fail_configuration(str(error))
    client = RegistryClient(channel, config.scheduler_timeout_seconds)
    upstream = Upstream(supervisor, client, identity, config.heartbeat_interval_seconds)
    await running.set_serving(True)
    announce_ready(config, running)
    loops = [
        asyncio.create_task(upstream.run()),
        asyncio.create_task(Background(supervisor).run()),
    ]
    signalled = asyncio.create_task(running.wait_for_signal())
    await asyncio.wait([signalled, *loops], return_when=asyncio.FIRST_COMPLETED)
    structlog.get_logger().info("draining", runs=len(supervisor.active()))
    await supervisor.drain()
    await checks.close()
    for loop in loops:
        loop.cancel()
    ends = await asyncio.gather(*loops, return_exceptions=True)
    await running.stop()
    await supervisor.close()
    await channel.close()
    signalled.cancel()
    for end in ends:
        # A loop that died takes the service down, for whoever restarts it; runs go on.
        if not isinstance(end, asyncio.CancelledError):
            raise SystemExit(f"a loop of the service ended: {end!r}")


def _registrations(
    config: TrainerConfig,
    supervisor: Supervisor,
    checks: DataChecks,
    incarnation: str,
    capabilities: trainer_pb2.TrainerCapabilities,
) -> Sequence[Registration]:
    name = trainer_name(config.name)
    trainer = TrainerServicer(supervisor, checks, name, incarnation, capabilities)
    return [
        Registration(
            trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"],
            trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server,
            trainer,
        ),
        Registration(
            feed_pb2.DESCRIPTOR.services_by_name["FeedService"],
            feed_pb2_grpc.add_FeedServiceServicer_to_server,
            FeedServicer(supervisor, config.feed_keepalive_seconds),
        ),
    ]


if __name__ == "__main__":
    main()
