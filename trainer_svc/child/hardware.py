"""What the hardware of this run can do, and the choices that follow.

Owns the defaults that depend on it: bf16 and gradient checkpointing. Refuses a
GPU job on a host where torch sees no GPU (RunFailed, ENVIRONMENT_INVALID).
"""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.v1.spec_pb2 import Hyperparameters

from trainer_svc.child.failure import Cause, RunFailed

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "pillow",
)


@dataclass(frozen=True)
class Hardware:
    """`device_map` is where the layers go: one device, or split over all GPUs given."""

    name: str
    device_map: Mapping[str, Any] | str
    use_cpu: bool
    bf16: bool
    gradient_checkpointing: bool


def choose_hardware(use_cpu: bool, wanted: Hyperparameters) -> Hardware:
    """The devices of this process. Raises RunFailed."""
    import torch

    checkpointing = not use_cpu
    if wanted.HasField("gradient_checkpointing"):
        checkpointing = wanted.gradient_checkpointing
    if use_cpu:
        in_hardware = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
        bf16 = wanted.bf16 if wanted.HasField("bf16") else in_hardware
        return Hardware("cpu", {"": "cpu"}, True, bf16, checkpointing)
    if not torch.cuda.is_available():
        raise RunFailed(
            Cause.ENVIRONMENT_INVALID,
            "the job asks for a GPU, but torch sees none",
            "Check the driver and that torch was installed with CUDA, or ask for a CPU slot.",
        )
    in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    bf16 = wanted.bf16 if wanted.HasField("bf16") else in_hardware
    count = torch.cuda.device_count()
    name = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return Hardware(name, {"": 0} if count == 1 else "auto", False, bf16, checkpointing)


def library_versions() -> dict[str, str]:
    """The versions of what trains. Raises PackageNotFoundError."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def host_memory_bytes() -> int:
    """Resident memory of this process."""
    import resource

    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def gpu_memory_bytes_max() -> int | None:
    """Peak memory allocated on all GPUs by this process; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
