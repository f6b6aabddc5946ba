"""GPUs: whose processes are on them, and what the driver's library makes of a host."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tunewright.v1 import spec_pb2

from svckit.spec import Backend
from trainer_svc.domain.authority import Authority
from trainer_svc.domain.refusals import TrainerFull
from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.gpus import (
    Driver,
    GpuReading,
    NoGpus,
    NvidiaGpus,
    capacity_of,
    foreign_pids,
)
from trainer_svc.supervisor.host import Host
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.starting import StartOrder
from trainer_svc.supervisor.supervisor import Supervisor
from trainer_svc.supervisor.workspace import Workspace

READING = GpuReading("0", "GPU-1", "NVIDIA H200", 100, 10, 5)


class FakeGpus:
    """GPUs that a test makes up."""

    def __init__(self, readings: Sequence[GpuReading]) -> None:
        self.readings = readings

    def read(self) -> Sequence[GpuReading]:
        return self.readings

    def driver(self) -> Driver:
        return Driver("580.1", "13.0")


@pytest.mark.parametrize(
    ("pids", "held", "foreign"),
    [
        ((), False, []),
        ((7,), True, []),  # ours
        ((8,), False, [8]),  # somebody's
        ((8,), True, [8]),
        ((9,), False, [9]),  # of another container: not visible here, and nothing of ours
        ((9,), True, []),  # not visible, and a run of ours holds the GPU
    ],
)
def test_a_process_of_somebody_else_is_foreign(
    pids: tuple[int, ...], held: bool, foreign: list[int]
) -> None:
    reading = replace(READING, pids=pids)

    found = foreign_pids(reading, frozenset({7}), held, lambda pid: pid != 9)

    assert found == foreign


async def test_a_gpu_that_somebody_uses_is_not_handed_out(tmp_path: Path) -> None:
    readings = [READING, replace(READING, gpu_id="1", pids=(os.getppid(),))]
    workspace = Workspace.open(tmp_path / "workspace")
    settings = Settings(
        workspace.path, tmp_path, tmp_path, disk_bytes_free_min=0, commands=_never()
    )
    host = Host(FakeGpus(readings), None, workspace.uuid)
    supervisor = Supervisor(settings, workspace, host)
    await supervisor.open()
    supervisor.bind(Authority("db", 1))

    with pytest.raises(TrainerFull, match="not ours"):
        await supervisor.start(StartOrder(RunKey("job-a", 1), spec_pb2.JobSpec(), ["1"]))

    gpus = await host.gpu_messages(supervisor.runs())
    assert [list(gpu.foreign_pids) for gpu in gpus] == [[], [os.getppid()]]
    assert supervisor.runs() == []
    await supervisor.close()
    workspace.close()


def _never() -> dict[Backend, Any]:
    return {}


@pytest.mark.parametrize(
    ("gpus", "configured", "slots"), [({}, None, 1), ({"0": ()}, None, 0), ({"0": ()}, 3, 3)]
)
def test_cpu_slots_default_to_one_without_gpus(
    gpus: dict[str, Sequence[int]], configured: int | None, slots: int
) -> None:
    assert capacity_of(gpus, configured) == slots


class NvmlError(Exception):
    """As pynvml's."""


class FakeNvml:
    """The part of pynvml that is used; power cannot be read."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0

    def __getattr__(self, name: str) -> Any:
        values: dict[str, Any] = {
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=100, used=40),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=55),
            "nvmlDeviceGetTemperature": 60,
            "nvmlDeviceGetUUID": b"GPU-1",
            "nvmlDeviceGetName": "NVIDIA H200",
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=5)],
            "nvmlDeviceGetGraphicsRunningProcesses": [],
            "nvmlSystemGetDriverVersion": "580.1",
            "nvmlSystemGetCudaDriverVersion_v2": 13000,
            "nvmlDeviceGetHandleByIndex": 0,
        }

        def ask(*_: object) -> Any:
            if name not in values:
                raise NvmlError(name)
            return values[name]

        return ask


def test_readings_come_from_the_driver_and_what_it_does_not_tell_is_absent() -> None:
    gpus = NvidiaGpus(FakeNvml())

    readings = gpus.read()

    assert [one.gpu_id for one in readings] == ["0", "1"]
    assert readings[0] == GpuReading(
        "0", "GPU-1", "NVIDIA H200", 100, 40, 55, temperature_celsius=60, pids=[5]
    )
    assert gpus.driver() == Driver("580.1", "13.0")


def test_a_host_without_gpus_has_none() -> None:
    assert list(NoGpus().read()) == []
    assert NoGpus().driver() == Driver()
