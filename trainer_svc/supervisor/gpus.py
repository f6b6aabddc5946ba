"""GPUs behind a port: what they are, what they do, and who is on them.

The real one asks the driver through pynvml. A host without a driver has no
GPUs; that is said once, in one log line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog

T = TypeVar("T")


@dataclass(frozen=True)
class GpuReading:
    """One GPU, now. `pids` are all processes on it, as the driver counts them."""

    gpu_id: str
    uuid: str
    product_name: str
    memory_bytes_total: int
    memory_bytes_used: int
    utilization_percent: int
    temperature_celsius: int | None = None
    power_watts: float | None = None
    pids: Sequence[int] = ()


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver; both empty without one."""

    driver_version: str = ""
    cuda_version: str = ""


class GpuInventory(Protocol):
    """What the supervisor needs to know of a host's GPUs."""

    def read(self) -> Sequence[GpuReading]:
        """Every GPU, sampled now; blocking, some milliseconds. Never raises."""
        ...

    def driver(self) -> Driver:
        """The driver's versions."""
        ...


class NoGpus:
    """A host without GPUs."""

    def read(self) -> Sequence[GpuReading]:
        return ()

    def driver(self) -> Driver:
        return Driver()


class NvidiaGpus:
    """The host's GPUs, by the driver's own library."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def read(self) -> Sequence[GpuReading]:
        try:
            return [self._read(index) for index in range(self._nvml.nvmlDeviceGetCount())]
        except self._nvml.NVMLError as error:
            structlog.get_logger().warning("GPUs cannot be read", error=str(error))
            return ()

    def driver(self) -> Driver:
        version = self._or_none(self._nvml.nvmlSystemGetCudaDriverVersion_v2)
        cuda = f"{version // 1000}.{version % 1000 // 10}" if version else ""
        return Driver(_text(self._or_none(self._nvml.nvmlSystemGetDriverVersion) or ""), cuda)

    def _read(self, index: int) -> GpuReading:
        nvml = self._nvml
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        rates = self._or_none(nvml.nvmlDeviceGetUtilizationRates, device)
        milliwatts = self._or_none(nvml.nvmlDeviceGetPowerUsage, device)
        return GpuReading(
            gpu_id=str(index),
            uuid=_text(nvml.nvmlDeviceGetUUID(device)),
            product_name=_text(nvml.nvmlDeviceGetName(device)),
            memory_bytes_total=int(memory.total),
            memory_bytes_used=int(memory.used),
            utilization_percent=int(rates.gpu) if rates is not None else 0,
            temperature_celsius=self._or_none(
                nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU
            ),
            power_watts=milliwatts / 1000 if milliwatts is not None else None,
            pids=self._pids(device),
        )

    def _pids(self, device: Any) -> Sequence[int]:
        found: set[int] = set()
        for ask in (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            found |= {int(process.pid) for process in self._or_none(ask, device) or ()}
        return sorted(found)

    def _or_none(self, ask: Callable[..., T], *arguments: Any) -> T | None:
        """A value that not every GPU tells."""
        try:
            return ask(*arguments)
        except self._nvml.NVMLError:
            return None


def _text(value: str | bytes) -> str:
    """Older releases of the library give bytes."""
    return value.decode() if isinstance(value, bytes) else value


def find_gpus() -> GpuInventory:
    """The host's GPUs; NoGpus, and one log line, where there is no driver."""
    import pynvml  # only here: tests and hosts without GPUs need none of it

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        structlog.get_logger().info("no GPUs", reason=str(error))
        return NoGpus()
    return NvidiaGpus(pynvml)


def foreign_pids(
    reading: GpuReading,
    ours: frozenset[int],
    held_by_us: bool,
    visible: Callable[[int], bool],
) -> Sequence[int]:
    """The processes on a GPU that this trainer did not start.

    In a container the driver's numbers may be the host's, which mean nothing
    here: such a process counts as ours exactly while a run of ours holds the GPU.
    """
    return [pid for pid in reading.pids if pid not in ours and (visible(pid) or not held_by_us)]


def capacity_of(gpus: Mapping[str, Sequence[int]], configured: int | None) -> int:
    """CPU slots: as configured, else one where there is no GPU, and none where there is."""
    if configured is not None:
        return configured
    return 0 if gpus else 1
