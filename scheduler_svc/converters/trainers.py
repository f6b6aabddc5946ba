"""Trainers and their GPUs, to and from their messages.

Reads tolerantly what a newer trainer may say (a backend that this version does
not know is left out); notes what cannot be stored.
"""

from collections.abc import Iterable

from tunewright.v1 import spec_pb2, trainer_pb2
from tunewright.wire.names import job_name, trainer_name
from tunewright.wire.times import timestamp

from scheduler_svc.converters.text import line, lines
from scheduler_svc.domain.fleet import Capabilities, FamilySupport, FeatureSupport, Gpu, Host
from scheduler_svc.domain.job import JobId
from svckit.spec import Backend

GPUS_MAX = 64
_PIDS_MAX = 256
_BACKENDS_MAX = 16
_FAMILIES_MAX = 256
_FEATURES_MAX = 64
_PACKAGES_MAX = 16


def trainer_message(host: Host) -> trainer_pb2.Trainer:
    """A trainer as people see it."""
    trainer = host.trainer
    holders = host.gpu_holders
    message = trainer_pb2.Trainer(
        name=trainer_name(trainer.trainer_id),
        address=trainer.address,
        state=trainer_pb2.TrainerState.Value(host.state.value),
        cordoned=trainer.cordoned,
        capabilities=capabilities_message(trainer.capabilities),
        gpus=[_gpu_message(gpu, holders.get(gpu.gpu_id)) for gpu in trainer.gpus],
        cpu_slots_used=host.cpu_slots_used,
        jobs=sorted({job_name(slot.job_id) for slot in host.slots}),
        create_time=timestamp(trainer.create_time),
        disk_bytes_free=trainer.disk_bytes_free,
    )
    if trainer.heartbeat_time is not None:
        message.heartbeat_time.CopyFrom(timestamp(trainer.heartbeat_time))
    return message


def capabilities_message(capabilities: Capabilities) -> trainer_pb2.TrainerCapabilities:
    """What a trainer can do."""
    return trainer_pb2.TrainerCapabilities(
        backends=[spec_pb2.Backend.Value(backend.value) for backend in capabilities.backends],
        cpu_slots=capabilities.cpu_slots,
        version=capabilities.version,
        artifact_store=capabilities.artifact_store,
        missing_backends=dict(capabilities.missing_backends),
        backend_versions=dict(capabilities.backend_versions),
        backend_notes=dict(capabilities.backend_notes),
        families=[
            trainer_pb2.FamilySupport(
                family=one.family,
                backend=spec_pb2.Backend.Value(one.backend),
                reads_pictures=one.reads_pictures,
                missing_packages=one.missing_packages,
                unsupported=one.unsupported,
            )
            for one in capabilities.families
        ],
        features=[
            trainer_pb2.FeatureSupport(
                feature=one.feature,
                backend=spec_pb2.Backend.Value(one.backend),
                missing_packages=one.missing_packages,
            )
            for one in capabilities.features
        ],
    )


def capabilities_of(message: trainer_pb2.TrainerCapabilities) -> Capabilities:
    """What a trainer told of itself."""
    numbers = {spec_pb2.Backend.Value(backend.value): backend for backend in Backend}
    return Capabilities(
        backends=tuple(numbers[number] for number in message.backends if number in numbers),
        cpu_slots=max(0, message.cpu_slots),
        version=line(message.version),
        artifact_store=line(message.artifact_store),
        missing_backends={
            line(name): lines(why, 1024)
            for name, why in list(message.missing_backends.items())[:16]
        },
        backend_versions={
            line(name): line(version)
            for name, version in list(message.backend_versions.items())[:16]
        },
        backend_notes={
            line(name): lines(note, 1024) for name, note in list(message.backend_notes.items())[:16]
        },
        families=tuple(
            FamilySupport(
                family=line(one.family),
                backend=numbers[one.backend].value,
                reads_pictures=one.reads_pictures,
                missing_packages=_packages(one.missing_packages),
                unsupported=line(one.unsupported),
            )
            for one in message.families[:_FAMILIES_MAX]
            if one.backend in numbers
        ),
        features=tuple(
            FeatureSupport(
                feature=line(one.feature),
                backend=numbers[one.backend].value,
                missing_packages=_packages(one.missing_packages),
            )
            for one in message.features[:_FEATURES_MAX]
            if one.backend in numbers
        ),
    )


def _packages(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(line, list(names)[:_PACKAGES_MAX]))


def gpus_of(messages: Iterable[trainer_pb2.Gpu]) -> tuple[Gpu, ...]:
    """The GPUs of a host; each index once, the last one said holds."""
    found = {message.gpu_id: _gpu(message) for message in messages if message.gpu_id}
    return tuple(list(found.values())[:GPUS_MAX])


def _gpu(message: trainer_pb2.Gpu) -> Gpu:
    has_temperature = message.HasField("temperature_celsius")
    return Gpu(
        gpu_id=line(message.gpu_id),
        memory_bytes_total=message.memory_bytes_total,
        uuid=line(message.uuid),
        product_name=line(message.product_name),
        memory_bytes_used=message.memory_bytes_used,
        utilization_percent=message.utilization_percent,
        temperature_celsius=message.temperature_celsius if has_temperature else None,
        power_watts=message.power_watts if message.HasField("power_watts") else None,
        foreign_pids=tuple(message.foreign_pids[:_PIDS_MAX]),
    )


def _gpu_message(gpu: Gpu, holder: JobId | None) -> trainer_pb2.Gpu:
    return trainer_pb2.Gpu(
        gpu_id=gpu.gpu_id,
        uuid=gpu.uuid,
        product_name=gpu.product_name,
        memory_bytes_total=gpu.memory_bytes_total,
        memory_bytes_used=gpu.memory_bytes_used,
        utilization_percent=gpu.utilization_percent,
        temperature_celsius=gpu.temperature_celsius,
        power_watts=gpu.power_watts,
        foreign_pids=gpu.foreign_pids,
        job=job_name(holder) if holder else "",
    )
