"""What is to be said of one trainer: its state, disks, GPUs and libraries. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunewright.cli import words
from tunewright.cli.doctor.findings import Finding, broken, odd, well
from tunewright.cli.doctor.probes import Reply
from tunewright.cli.doctor.services import advertised, remedy
from tunewright.cli.trainable import family_fields, missing_packages
from tunewright.errors import PermissionDenied, Unauthenticated
from tunewright.fields import enum_short_name
from tunewright.v1 import spec_pb2, trainer_pb2, trainer_service_pb2

GIB = 1024**3
# A trainer's own default: with less it starts no run.
DISK_BYTES_MIN = GIB
# Rank 64 on every linear layer of an 8B model: 168 million weights of 4 bytes, as much again for
# an 8-bit optimizer, and the tokenizer, about 1.5 GiB. Three are kept while a fourth is written.
CHECKPOINTS_BYTES = 8 * GIB
TEMPERATURE_CELSIUS_MAX = 85

SystemReply = Reply[trainer_service_pb2.SystemInfo]


@dataclass(frozen=True)
class HostReply:
    """One trainer as the scheduler knows it, and its own reply."""

    trainer: trainer_pb2.Trainer
    reply: SystemReply

    @property
    def name(self) -> str:
        """ "trainers/a"."""
        return self.trainer.name

    @property
    def system(self) -> trainer_service_pb2.SystemInfo | None:
        """What it tells of itself; None if it does not answer."""
        return self.reply.answer

    @property
    def capabilities(self) -> trainer_pb2.TrainerCapabilities:
        """What it can do: its own word, else the scheduler's."""
        return self.system.capabilities if self.system else self.trainer.capabilities

    @property
    def gpus(self) -> Sequence[trainer_pb2.Gpu]:
        """The same."""
        return self.system.gpus if self.system else self.trainer.gpus


def host_findings(host: HostReply) -> Iterator[Finding]:
    """Everything about one trainer, but for its version and clock."""
    yield _reached(host)
    yield from advertised(host.name, host.trainer.address)
    yield from _state(host.trainer)
    if host.system is not None:
        yield from _disks(host.name, host.system.disks)
    yield from _gpus(host)
    yield from _backends(host)


def _reached(host: HostReply) -> Finding:
    error = host.reply.error
    if error is None:
        told = f"answers at {host.reply.address} in {1000 * host.reply.took_seconds:.0f} ms"
        return well(host.name, f"{told}, version {host.capabilities.version}")
    refused = isinstance(error, Unauthenticated | PermissionDenied)
    heard = host.trainer.state == trainer_pb2.TRAINER_STATE_READY
    if heard and not refused and not error.reason:
        told = f"{error}, but the scheduler hears of it"
        advice = "to see its disks and libraries, run doctor where it can be reached: on its host"
        return odd(host.name, told, advice)
    start_it = f"start it again on its host, or see why nothing gets to {host.trainer.address}"
    return broken(host.name, str(error), remedy(error, start_it))


def _state(trainer: trainer_pb2.Trainer) -> Iterator[Finding]:
    state = enum_short_name(trainer_pb2.TrainerState.DESCRIPTOR, trainer.state)
    if trainer.state == trainer_pb2.TRAINER_STATE_LOST:
        told = "is LOST: not heard of for so long that its jobs were given up"
        yield broken(trainer.name, told, "start its service again; its runs are then settled")
    elif trainer.state != trainer_pb2.TRAINER_STATE_READY:
        told = f"is {state}: the scheduler has not heard of it for a while, it gets no new work"
        yield odd(trainer.name, told, "see its log, and the network between it and the scheduler")
    if trainer.cordoned:
        advice = f"tunewright trainers uncordon {trainer.name.removeprefix('trainers/')}"
        yield odd(trainer.name, "is cordoned: it gets no new work", advice)


def _disks(name: str, disks: Sequence[trainer_service_pb2.Disk]) -> Iterator[Finding]:
    # The roles often share a file system; it is told once, by all its roles.
    systems: dict[tuple[int, int], list[trainer_service_pb2.Disk]] = {}
    for disk in disks:
        systems.setdefault((disk.bytes_total, disk.bytes_free), []).append(disk)
    told = []
    for shared in systems.values():
        roles, free = ", ".join(disk.role for disk in shared), shared[0].bytes_free
        has = f"{words.size(free)} free for {roles} ({shared[0].path})"
        told.append(has)
        if free < DISK_BYTES_MIN:
            least = words.size(DISK_BYTES_MIN)
            advice = f"make room: with less than {least} no run starts (--disk-bytes-free-min)"
            yield broken(name, f"only {has}", advice)
        elif free < CHECKPOINTS_BYTES:
            needed = words.size(CHECKPOINTS_BYTES)
            advice = f"make room: the checkpoints of one job on an 8B model can need {needed}"
            yield odd(name, f"only {has}", advice)
    if all(disk.bytes_free >= CHECKPOINTS_BYTES for disk in disks) and told:
        yield well(name, "; ".join(told))


def _gpus(host: HostReply) -> Iterator[Finding]:
    if not host.gpus:
        slots = host.capabilities.cpu_slots
        if slots:
            yield well(host.name, f"no GPU; CPU jobs at once: {slots}")
        else:
            advice = "install the NVIDIA driver, or give it --cpu-slots"
            yield broken(host.name, "has neither a GPU nor a CPU slot, so no job fits", advice)
        return
    problems = [*_cuda(host), *(one for gpu in host.gpus for one in _gpu(host.name, gpu))]
    yield from problems
    if not problems:
        names = ", ".join(f"{gpu.gpu_id} {gpu.product_name}" for gpu in host.gpus)
        driver = f", driver {host.system.driver_version}" if host.system else ""
        yield well(host.name, f"GPUs: {names}{driver}")


def _cuda(host: HostReply) -> Iterator[Finding]:
    """Whether torch can use the driver. A major version of CUDA runs on drivers of that
    major version or a later one (CUDA's minor version compatibility)."""
    system = host.system
    if system is None or "torch" not in system.library_versions:
        return
    torch, driver = system.torch_cuda_version, system.cuda_version
    if not torch:
        told = "has GPUs, but its torch is built for the CPU alone"
        advice = "install a build of torch with CUDA in the trainer's environment"
        # ms-swift has a torch of its own.
        if spec_pb2.BACKEND_SWIFT in host.capabilities.backends:
            yield odd(host.name, f"{told}, so only swift jobs can use them", advice)
        else:
            yield broken(host.name, told, advice)
    elif driver and _major(torch) > _major(driver):
        told = f"torch is built for CUDA {torch}; driver {system.driver_version} knows {driver}"
        yield broken(host.name, told, "install a newer driver, or torch built for an older CUDA")


def _gpu(name: str, gpu: trainer_pb2.Gpu) -> Iterator[Finding]:
    if gpu.foreign_pids:
        pids = ", ".join(map(str, gpu.foreign_pids))
        told = f"GPU {gpu.gpu_id} is used by processes of others ({pids}), so no job gets it"
        yield odd(name, told, "end them, or leave that GPU to them")
    hot = gpu.HasField("temperature_celsius") and gpu.temperature_celsius > TEMPERATURE_CELSIUS_MAX
    if hot:
        told = f"GPU {gpu.gpu_id} is at {gpu.temperature_celsius} °C and will slow down"
        yield odd(name, told, "see to its cooling")


def _backends(host: HostReply) -> Iterator[Finding]:
    able = [
        enum_short_name(spec_pb2.Backend.DESCRIPTOR, one).lower()
        for one in host.capabilities.backends
    ]
    missing = sorted(host.capabilities.missing_backends.items())
    if able:
        yield well(host.name, f"backends: {', '.join(able)}")
        yield from _families(host)
    for backend, why in missing:
        told = f"no {backend.removeprefix('BACKEND_').lower()}: {why}"
        if able:
            yield odd(host.name, told, "install it there if jobs are to use it")
        else:
            advice = "pip install 'tunewright-server[train]' in the trainer's environment"
            yield broken(host.name, told, advice)


def _families(host: HostReply) -> Iterator[Finding]:
    """Which models each backend trains there, and what keeps it from others."""
    for name, told in family_fields(host.capabilities):
        yield well(host.name, f"{name}: {told}")
    for backend, packages in sorted(missing_packages(host.capabilities).items()):
        for package, wanted_by in packages.items():
            told = f"{backend} lacks {package}, for {', '.join(wanted_by)}"
            yield odd(host.name, told, f"install it in the environment of {backend}")


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0
