"""`tunewright trainers ...` and `tunewright system info`: the hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from tunewright.cli import words
from tunewright.cli.exits import ExitCode
from tunewright.cli.options import Address, AsJson, TrainerName, client_for
from tunewright.cli.output import json_line, note, print_fields, print_table, say
from tunewright.cli.trainable import family_fields, missing_packages
from tunewright.fields import enum_short_name
from tunewright.fleet import HostInfo
from tunewright.v1 import trainer_pb2, trainer_service_pb2
from tunewright.wire.times import moment

trainers_app = typer.Typer(no_args_is_help=True, help="Inspect and cordon trainers.")
system_app = typer.Typer(no_args_is_help=True, help="Show host information.")


@trainers_app.command("list")
def list_trainers(as_json: AsJson = False, address: Address = None) -> None:
    """List trainers by name."""
    with client_for(address) as client:
        found = list(client.trainers.list())
    if as_json:
        for trainer in found:
            say(json_line(trainer))
    elif found:
        header = ("TRAINER", "STATE", "GPUS FREE", "CPU SLOTS FREE", "JOBS", "DISK FREE", "ADDRESS")
        print_table(header, [_row(trainer) for trainer in found])
    else:
        note("no trainers")


@trainers_app.command()
def get(trainer: TrainerName, as_json: AsJson = False, address: Address = None) -> None:
    """Show one trainer."""
    with client_for(address) as client:
        _show(client.trainers.get(trainer), as_json)


@trainers_app.command()
def cordon(trainer: TrainerName, as_json: AsJson = False, address: Address = None) -> None:
    """Stop assigning new jobs to a trainer. Its running jobs continue."""
    with client_for(address) as client:
        _show(client.trainers.cordon(trainer), as_json)


@trainers_app.command()
def uncordon(trainer: TrainerName, as_json: AsJson = False, address: Address = None) -> None:
    """Allow new jobs on a trainer again."""
    with client_for(address) as client:
        _show(client.trainers.uncordon(trainer), as_json)


@system_app.command("info")
def info(
    trainer: Annotated[str | None, typer.Option(help="Show only this trainer.")] = None,
    as_json: AsJson = False,
    address: Address = None,
) -> ExitCode:
    """Show each host: libraries, GPUs, memory and disks. Exit code 1 if one does not answer."""
    with client_for(address) as client:
        hosts = client.system_info(trainer)
    for host in hosts:
        _show_host(host, as_json)
    if not hosts:
        note("no trainers")
    return ExitCode.FAILED if any(host.error for host in hosts) else ExitCode.OK


def _show(trainer: trainer_pb2.Trainer, as_json: bool) -> None:
    if as_json:
        say(json_line(trainer))
    else:
        print_fields(_page(trainer))


def _show_host(host: HostInfo, as_json: bool) -> None:
    if host.system is None:
        note(f"{host.trainer.name}: {host.error}")
    elif as_json:
        say(json_line(host.system))
    else:
        say(host.trainer.name)
        print_fields(_system_fields(host.system), indent="  ")


def _state(trainer: trainer_pb2.Trainer) -> str:
    state = enum_short_name(trainer_pb2.TrainerState.DESCRIPTOR, trainer.state)
    return f"{state}, cordoned" if trainer.cordoned else state


def _row(trainer: trainer_pb2.Trainer) -> tuple[str, ...]:
    free = sum(not (gpu.job or gpu.foreign_pids) for gpu in trainer.gpus)
    slots = trainer.capabilities.cpu_slots
    return (
        trainer.name.removeprefix("trainers/"),
        _state(trainer),
        f"{free} of {len(trainer.gpus)}",
        f"{slots - trainer.cpu_slots_used} of {slots}",
        str(len(trainer.jobs)),
        words.size(trainer.disk_bytes_free),
        trainer.address,
    )


def _page(trainer: trainer_pb2.Trainer) -> Iterator[tuple[str, str]]:
    capabilities = trainer.capabilities
    backends = trainer_pb2.TrainerCapabilities.DESCRIPTOR.fields_by_name["backends"].enum_type
    yield "trainer", trainer.name
    yield "state", _state(trainer)
    yield "address", trainer.address
    if trainer.HasField("heartbeat_time"):
        yield "heard of", f"{moment(trainer.heartbeat_time).astimezone():%Y-%m-%d %H:%M:%S}"
    if backends is not None:
        names = (enum_short_name(backends, one).lower() for one in capabilities.backends)
        yield "backends", ", ".join(names)
    for backend, why in sorted(capabilities.missing_backends.items()):
        yield f"no {backend.removeprefix('BACKEND_').lower()}", why
    yield from family_fields(capabilities)
    for backend, packages in sorted(missing_packages(capabilities).items()):
        for package, wanted_by in packages.items():
            yield f"{backend} lacks", f"{package}, for {', '.join(wanted_by)}"
    yield "CPU slots", f"{trainer.cpu_slots_used} of {capabilities.cpu_slots} taken"
    yield from _gpu_fields(trainer.gpus)
    yield "jobs", ", ".join(trainer.jobs)
    yield "disk free", words.size(trainer.disk_bytes_free)
    yield "version", capabilities.version


def _system_fields(system: trainer_service_pb2.SystemInfo) -> Iterator[tuple[str, str]]:
    yield "host", f"{system.hostname}, {system.platform}"
    yield "python", system.python_version
    yield "driver", system.driver_version
    yield "cuda", system.cuda_version
    yield "torch's cuda", system.torch_cuda_version
    yield from _gpu_fields(system.gpus)
    free, total = system.memory_bytes_available, system.memory_bytes_total
    yield "cores", str(system.cpu_count)
    yield "memory", f"{words.size(free)} of {words.size(total)} available"
    for disk in system.disks:
        yield disk.role, f"{disk.path}, {words.size(disk.bytes_free)} free"
    yield "model roots", ", ".join(system.model_roots)
    yield "data roots", ", ".join(system.data_roots)
    yield "runs", str(system.runs_active)
    versions = sorted(system.library_versions.items())
    yield "libraries", ", ".join(f"{name} {version}" for name, version in versions)


def _gpu_fields(gpus: Iterable[trainer_pb2.Gpu]) -> Iterator[tuple[str, str]]:
    for gpu in gpus:
        used, total = words.size(gpu.memory_bytes_used), words.size(gpu.memory_bytes_total)
        told = f"{gpu.product_name}, {used} of {total} in use, {gpu.utilization_percent} % busy"
        if gpu.foreign_pids:
            told += f", used by others ({', '.join(map(str, gpu.foreign_pids))})"
        yield f"GPU {gpu.gpu_id}", f"{told}, {gpu.job}" if gpu.job else told
