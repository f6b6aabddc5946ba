"""Before the child runs: what is checked, and what spec.json says.

Refuses, before a GPU is used, what only this host's disk can tell: a full
disk, an output folder that is taken or behind a link, a backend that is not here.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tunewright.v1 import spec_pb2

from svckit.refusal import Refusal
from svckit.spec.wire import spec_from_proto
from trainer_svc.domain.command import (
    ChildCommand,
    build_command,
    cpu_threads_per_job,
    run_marker,
)
from trainer_svc.domain.failure_messages import HINTS
from trainer_svc.domain.runs import Cause, Failure, RunKey
from trainer_svc.supervisor.durable import make_folder
from trainer_svc.supervisor.output_root import OutputInvalid, check_free, staging_of
from trainer_svc.supervisor.processes import boot_id_file
from trainer_svc.supervisor.run_folder import RunFolder
from trainer_svc.supervisor.settings import Settings


@dataclass(frozen=True)
class StartOrder:
    """What is to be started."""

    key: RunKey
    spec: spec_pb2.JobSpec
    gpu_ids: Sequence[str] = ()
    resume: bool = False


class StartProblem(Exception):
    """The run fails before its child starts."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(cause, message, HINTS[cause])


def staging_path(settings: Settings, key: RunKey) -> Path:
    """Where a run's child puts its result."""
    return settings.outputs / ".staging" / f"{key.job_id}-{key.attempt}"


def checkpoints_path(settings: Settings, key: RunKey) -> Path:
    """Where a job's checkpoints are; all attempts share it."""
    return settings.artifacts / "jobs" / key.job_id / "checkpoints"


def prepare(settings: Settings, workspace_uuid: str, folder: RunFolder, order: StartOrder) -> None:
    """Writes spec.json, whatever comes of it; then raises StartProblem if it cannot start.

    Blocking. Raises OSError if spec.json itself cannot be written.
    """
    problem: StartProblem | None = None
    command: ChildCommand | None = None
    marker = run_marker(workspace_uuid, order.key.job_id, order.key.attempt)
    try:
        command = _command(settings, folder, order, marker)
        _check_host(settings, order)
    except StartProblem as found:
        problem = found
    folder.write_spec(_spec_json(settings, folder, order, command))
    if problem is not None:
        raise problem


def _command(settings: Settings, folder: RunFolder, order: StartOrder, marker: str) -> ChildCommand:
    try:
        spec = spec_from_proto(order.spec, "spec")
    except Refusal as refusal:
        raise StartProblem(Cause.CONFIG_INVALID, refusal.message) from None
    missing = settings.missing_backends.get(spec.backend)
    threads = cpu_threads_per_job(len(os.sched_getaffinity(0)), settings.cpu_slots or 1)
    command = build_command(
        settings.commands, spec, str(folder.path), order.gpu_ids, marker, threads
    )
    if missing is not None or command is None:
        why = missing or "this trainer does not know it"
        raise StartProblem(Cause.ENVIRONMENT_INVALID, f"backend {spec.backend.short_name}: {why}")
    return command


def _check_host(settings: Settings, order: StartOrder) -> None:
    try:
        for path in (settings.workspace, settings.artifacts, settings.outputs):
            _check_disk(path, settings.disk_bytes_free_min)
        check_free(settings.outputs, order.spec.output_dir)
        with staging_of(settings.outputs):
            pass
        make_folder(checkpoints_path(settings, order.key))
        make_folder(settings.workspace / "cache")
    except OutputInvalid as error:
        raise StartProblem(Cause.OUTPUT_INVALID, str(error)) from None
    except OSError as error:
        raise StartProblem(Cause.ENVIRONMENT_INVALID, str(error)) from None


def _check_disk(path: Path, bytes_free_min: int) -> None:
    free = shutil.disk_usage(path).free
    if free < bytes_free_min:
        message = f"{path} has {free} bytes free; {bytes_free_min} are needed to start"
        raise StartProblem(Cause.DISK_FULL, message)


def _spec_json(
    settings: Settings, folder: RunFolder, order: StartOrder, command: ChildCommand | None
) -> dict[str, Any]:
    return {
        "job": order.key.job,
        "attempt": order.key.attempt,
        "spec": spec_json(order.spec),
        "gpu_ids": list(order.gpu_ids),
        "resume": order.resume,
        "paths": {
            "run": str(folder.path),
            "checkpoints": str(checkpoints_path(settings, order.key)),
            "staging": str(staging_path(settings, order.key)),
            "cache": str(settings.workspace / "cache"),
        },
        "argv": list(command.argv) if command else [sys.executable, "-c", "raise SystemExit(2)"],
        "environment": dict(command.environment) if command else {},
        "stdout_bytes_max": settings.stdout_log_bytes_max,
        "boot_id_file": str(boot_id_file()),
        **host_json(settings, order.spec),
    }


def spec_json(spec: spec_pb2.JobSpec) -> Any:
    """The spec as it stands in spec.json."""
    return json.loads(json_format.MessageToJson(spec, preserving_proto_field_name=True))


def host_json(settings: Settings, spec: spec_pb2.JobSpec) -> dict[str, Any]:
    """What a child is told of its host: where it may read, and what it may run."""
    return {
        "model_roots": [str(root) for root in settings.model_roots],
        "data_roots": [str(root) for root in settings.data_roots],
        "allow_hub": settings.allow_hub,
        "trust_remote_code": spec.model.name in settings.trust_remote_code_models,
        "swift": _swift_json(settings),
    }


def _swift_json(settings: Settings) -> dict[str, str] | None:
    if settings.swift is None:
        return None
    return {"python": str(settings.swift.python), "version": settings.swift.version}
