"""What a user asks first of a host: versions, GPUs, memory, disks.

Never imports torch: versions come from the installed distributions' metadata,
the CUDA version that torch was built for from the text of its version file.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil
from tunewright.v1 import spec_pb2, trainer_pb2, trainer_service_pb2
from tunewright.wire.times import timestamp

from svckit.spec import Backend
from trainer_svc.domain.command import DEFAULT_COMMANDS, REQUIRED_LIBRARIES
from trainer_svc.domain.families import families_of, features_of
from trainer_svc.supervisor.host import Host
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.swift_environment import DISTRIBUTION

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "tokenizers",
    "safetensors",
    "deepspeed",
    "flash-attn",
    "numpy",
    "grpcio",
    "protobuf",
)
# Jobs prepare for it: trainer_svc/child/startup/torchvision_operators.py.
DECLARED_ONLY = "torchvision {}: its compiled operators are not there; pictures work without them"
_CUDA_LINE = re.compile(r"^cuda(?:\s*:[^=]+)?\s*=\s*['\"]([^'\"]+)['\"]", re.MULTILINE)


def library_versions(names: Sequence[str] = LIBRARIES) -> Mapping[str, str]:
    """Installed versions by distribution; those not installed are absent."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def torch_cuda_version() -> str:
    """The CUDA version that torch was built for; "" for a CPU build or without torch."""
    try:
        distribution = metadata.distribution("torch")
        text = Path(str(distribution.locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError):
        return ""
    found = _CUDA_LINE.search(text)
    return found[1] if found else ""


def missing_backends(why_no_swift: str = "") -> Mapping[Backend, str]:
    """Why each known backend that cannot run here cannot. `why_no_swift`: "" where it can."""
    missing: dict[Backend, str] = {Backend.SWIFT: why_no_swift} if why_no_swift else {}
    for backend in Backend.choices():
        if backend not in DEFAULT_COMMANDS:
            missing[backend] = "not supported by this trainer"
            continue
        if backend in missing:
            continue
        wanted = REQUIRED_LIBRARIES.get(backend, ())
        absent = [name for name in wanted if name not in library_versions(wanted)]
        if absent:
            missing[backend] = f"not installed: {', '.join(absent)}"
    return missing


def capabilities_of(
    settings: Settings, cpu_slots: int, artifact_store: str
) -> trainer_pb2.TrainerCapabilities:
    """What this trainer can do, for registration and GetSystemInfo."""
    able = [one for one in settings.commands if one not in settings.missing_backends]
    return trainer_pb2.TrainerCapabilities(
        backends=[spec_pb2.Backend.Value(one) for one in able],
        cpu_slots=cpu_slots,
        version=library_versions(["tunewright-server"]).get("tunewright-server", ""),
        artifact_store=artifact_store,
        missing_backends={str(one): why for one, why in settings.missing_backends.items()},
        backend_versions={str(Backend.SWIFT): settings.swift.version} if settings.swift else {},
        families=[one for backend in able for one in _families(backend, settings)],
        features=[one for backend in able for one in _features(backend, settings)],
        backend_notes={
            str(backend): DECLARED_ONLY.format(settings.environments[backend].torchvision)
            for backend in able
            if backend in settings.environments and settings.environments[backend].torchvision
        },
    )


def _families(backend: Backend, settings: Settings) -> Iterator[trainer_pb2.FamilySupport]:
    environment = settings.environments.get(backend)
    for one in families_of(backend, environment) if environment else ():
        yield trainer_pb2.FamilySupport(
            family=one.family.title,
            backend=spec_pb2.Backend.Value(backend),
            reads_pictures=one.family.reads_pictures,
            missing_packages=one.missing_packages,
            unsupported=one.unsupported,
        )


def _features(backend: Backend, settings: Settings) -> Iterator[trainer_pb2.FeatureSupport]:
    environment = settings.environments.get(backend)
    for one in features_of(environment) if environment else ():
        yield trainer_pb2.FeatureSupport(
            feature=one.feature,
            backend=spec_pb2.Backend.Value(backend),
            missing_packages=one.missing_packages,
        )


def system_info(
    trainer: str,
    settings: Settings,
    host: Host,
    capabilities: trainer_pb2.TrainerCapabilities,
) -> trainer_service_pb2.SystemInfo:
    """All of it but GPUs and living runs. Blocking."""
    memory = psutil.virtual_memory()
    driver = host.gpus.driver()
    return trainer_service_pb2.SystemInfo(
        trainer=trainer,
        hostname=socket.gethostname(),
        platform=platform.platform(),
        python_version=platform.python_version(),
        library_versions=_all_versions(settings),
        driver_version=driver.driver_version,
        cuda_version=driver.cuda_version,
        torch_cuda_version=torch_cuda_version(),
        cpu_count=os.cpu_count() or 0,
        memory_bytes_total=memory.total,
        memory_bytes_available=memory.available,
        disks=_disks(settings),
        capabilities=capabilities,
        time=timestamp(datetime.now(UTC)),
        model_roots=[str(root) for root in settings.model_roots],
        data_roots=[str(root) for root in settings.data_roots],
    )


def _all_versions(settings: Settings) -> Mapping[str, str]:
    """Those of the trainer's own environment, and, as "ms-swift/torch", of ms-swift's."""
    found = dict(library_versions())
    if settings.swift is not None:
        for name, version in settings.swift.versions.items():
            found[name if name == DISTRIBUTION else f"{DISTRIBUTION}/{name}"] = version
    return found


def _disks(settings: Settings) -> Sequence[trainer_service_pb2.Disk]:
    roles = {
        "workspace": settings.workspace,
        "artifacts": settings.artifacts,
        "outputs": settings.outputs,
    }
    return [_disk(role, path) for role, path in roles.items()]


def _disk(role: str, path: Path) -> trainer_service_pb2.Disk:
    usage = shutil.disk_usage(path)
    return trainer_service_pb2.Disk(
        role=role, path=str(path), bytes_total=usage.total, bytes_free=usage.free
    )
