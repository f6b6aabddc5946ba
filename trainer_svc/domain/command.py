"""From a spec to the command of its child: one table, a row per backend.

Pure: builds an argv list (never a shell's line) and the environment that is
added to the trainer's own. What a new backend needs is a row here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from svckit.spec import Backend, JobSpec

MARKER_VARIABLE = "TUNEWRIGHT_RUN"


@dataclass(frozen=True)
class ChildCommand:
    """What the shim runs: the argv, and what is added to the environment."""

    argv: Sequence[str]
    environment: Mapping[str, str]


ArgvBuilder = Callable[[JobSpec, str], Sequence[str]]
"""(spec, run folder) → argv of the child."""

CommandTable = Mapping[Backend, ArgvBuilder]


def _qlora(_spec: JobSpec, run_folder: str) -> Sequence[str]:
    return [sys.executable, "-m", "trainer_svc.child.qlora", run_folder]


def _swift(_spec: JobSpec, run_folder: str) -> Sequence[str]:
    # Our own child, in our own environment; ms-swift runs below it, in its own.
    return [sys.executable, "-m", "trainer_svc.child.swift", run_folder]


DEFAULT_COMMANDS: CommandTable = MappingProxyType({Backend.QLORA: _qlora, Backend.SWIFT: _swift})

REQUIRED_LIBRARIES: Mapping[Backend, Sequence[str]] = MappingProxyType(
    {
        Backend.QLORA: ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets"),
        # For reading and checking data; the rest is in ms-swift's own environment.
        Backend.SWIFT: ("pyarrow",),
    }
)
"""Distributions without which a backend cannot run in the trainer's own environment."""


def build_command(
    table: CommandTable,
    spec: JobSpec,
    run_folder: str,
    gpu_ids: Sequence[str],
    marker: str,
    cpu_threads: int,
) -> ChildCommand | None:
    """The command of a run; None if this trainer has no such backend.

    `marker` goes into the environment of the whole tree, so that it can be
    found again even when the shim died. A CPU job computes on `cpu_threads` threads.
    """
    builder = table.get(spec.backend)
    if builder is None:
        return None
    return ChildCommand(
        tuple(builder(spec, run_folder)), _environment(gpu_ids, marker, cpu_threads)
    )


def data_check_command(folder: str, rows_shown: int, marker: str, cpu_threads: int) -> ChildCommand:
    """The command of a data check, which sees no GPU."""
    argv = (sys.executable, "-m", "trainer_svc.child.data_check", folder, str(rows_shown))
    return ChildCommand(argv, _environment((), marker, cpu_threads))


def _environment(gpu_ids: Sequence[str], marker: str, cpu_threads: int) -> dict[str, str]:
    environment = {
        MARKER_VARIABLE: marker,
        # Empty for a CPU job: its child must not see a GPU that it does not hold.
        "CUDA_VISIBLE_DEVICES": ",".join(gpu_ids),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not gpu_ids:
        environment["OMP_NUM_THREADS"] = str(cpu_threads)
        # Threads that spin while they wait cost ten times the time as soon as cores are shared.
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return environment


def cpu_threads_per_job(cores: int, cpu_slots: int) -> int:
    """Threads of each CPU job, so that all slots together use the host's cores once."""
    return max(1, cores // max(1, cpu_slots))


def run_marker(workspace_uuid: str, job_id: str, attempt: int) -> str:
    """The value of TUNEWRIGHT_RUN for one run."""
    return f"{workspace_uuid}/{job_id}/{attempt}"


def check_marker(workspace_uuid: str, check_id: str) -> str:
    """The value of TUNEWRIGHT_RUN for one data check. Its id is a UUID; an attempt is a number."""
    return f"{workspace_uuid}/check/{check_id}"
