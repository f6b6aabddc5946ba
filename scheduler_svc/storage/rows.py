"""Records to rows and back.

Owns the JSON inside columns. Pure translation; makes no query.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.fleet import (
    Capabilities,
    FamilySupport,
    FeatureSupport,
    Gpu,
    Trainer,
)
from scheduler_svc.domain.job import Attempt, Job, JobId, JobOutput, Progress, TrainerId
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.states import JobState
from svckit.spec import Backend, JobSpec

Row = Mapping[str, Any]


def job_values(job: Job) -> dict[str, Any]:
    """A new job's row."""
    return {
        "job_id": job.job_id,
        "requirement_key": Requirement.of(job.spec).key,
        "spec": job.spec.to_json(),
        "backend": job.spec.backend.value,
        "model": job.spec.model.name,
        "model_kind": job.spec.model_kind.value,
        "output_dir": job.spec.output_dir,
        "run_timeout_seconds": job.spec.run_timeout_seconds,
        "retry_of": job.retry_of,
        "recipe": job.recipe or None,
        "create_time": job.create_time,
        **edit_values(job),
        **move_values(job),
    }


def edit_values(job: Job) -> dict[str, Any]:
    """What people may change of a job."""
    return {
        "display_name": job.display_name,
        "labels": _dumps(dict(job.labels)),
        "priority": job.priority,
        "queue_rank": -job.priority,
        "update_time": job.update_time,
        "delete_time": job.delete_time,
    }


def move_values(job: Job) -> dict[str, Any]:
    """What a move may change of a job."""
    return {
        "state": job.state.value,
        "attempt": job.attempt,
        "trainer_id": job.current.trainer_id if job.current else None,
        "incarnation": job.current.incarnation if job.current else None,
        "failure": _failure_text(job.failure),
        "output_path": job.output.path if job.output else None,
        "output_digest": job.output.manifest_digest if job.output else None,
        "update_time": job.update_time,
        "queue_time": job.queue_time,
        "not_before": job.not_before,
        "start_time": job.start_time,
        "end_time": job.end_time,
    }


def job_of(row: Row, attempts: Sequence[Attempt]) -> Job:
    """The record in a row of jobs."""
    output = None
    if row["output_path"] is not None:
        output = JobOutput(row["output_path"], row["output_digest"])
    return Job(
        job_id=JobId(row["job_id"]),
        spec=JobSpec.from_json(row["spec"]),
        state=JobState(row["state"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        display_name=row["display_name"],
        labels=json.loads(row["labels"]),
        priority=row["priority"],
        attempt=row["attempt"],
        attempts=tuple(attempts),
        failure=_failure_of(row["failure"]),
        output=output,
        retry_of=JobId(row["retry_of"]) if row["retry_of"] else None,
        recipe=row["recipe"] or "",
        queue_time=row["queue_time"],
        not_before=row["not_before"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        delete_time=row["delete_time"],
    )


def attempt_values(job_id: JobId, attempt: Attempt) -> dict[str, Any]:
    """An attempt's row."""
    return {
        "job_id": job_id,
        "attempt": attempt.attempt,
        "trainer_id": attempt.trainer_id,
        "incarnation": attempt.incarnation,
        "gpu_ids": _dumps(attempt.gpu_ids),
        "assign_time": attempt.assign_time,
        "start_time": attempt.start_time,
        "end_time": attempt.end_time,
        "failure": _failure_text(attempt.failure),
        "timed_out": attempt.timed_out,
        "slot_held": attempt.slot_held,
    }


def attempt_of(row: Row) -> Attempt:
    """The record in a row of attempts."""
    return Attempt(
        attempt=row["attempt"],
        trainer_id=TrainerId(row["trainer_id"]),
        incarnation=row["incarnation"],
        gpu_ids=tuple(json.loads(row["gpu_ids"])),
        assign_time=row["assign_time"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        failure=_failure_of(row["failure"]),
        timed_out=row["timed_out"],
        slot_held=row["slot_held"],
    )


def trainer_values(trainer: Trainer) -> dict[str, Any]:
    """A trainer's row."""
    return {
        "trainer_id": trainer.trainer_id,
        "address": trainer.address,
        "incarnation": trainer.incarnation,
        "boot_id": trainer.boot_id,
        "workspace_uuid": trainer.workspace_uuid,
        "capabilities": _dumps(asdict(trainer.capabilities)),
        "gpus": _dumps([asdict(gpu) for gpu in trainer.gpus]),
        "cordoned": trainer.cordoned,
        "faulty_gpu_ids": _dumps(sorted(trainer.faulty_gpu_ids)),
        "create_time": trainer.create_time,
        "lost_time": trainer.lost_time,
        "heartbeat_time": trainer.heartbeat_time,
        "disk_bytes_free": trainer.disk_bytes_free,
    }


def trainer_of(row: Row) -> Trainer:
    """The record in a row of trainers."""
    gpus = [
        Gpu(**{**one, "foreign_pids": tuple(one["foreign_pids"])})
        for one in json.loads(row["gpus"])
    ]
    return Trainer(
        trainer_id=TrainerId(row["trainer_id"]),
        address=row["address"],
        incarnation=row["incarnation"],
        boot_id=row["boot_id"],
        workspace_uuid=row["workspace_uuid"],
        capabilities=_capabilities_of(row["capabilities"]),
        create_time=row["create_time"],
        gpus=tuple(gpus),
        cordoned=row["cordoned"],
        faulty_gpu_ids=frozenset(json.loads(row["faulty_gpu_ids"])),
        lost_time=row["lost_time"],
        heartbeat_time=row["heartbeat_time"],
        disk_bytes_free=row["disk_bytes_free"],
    )


def _capabilities_of(text: str) -> Capabilities:
    """From JSON; an older version stored fewer of the fields."""
    fields = json.loads(text)
    for name, kind in (("families", FamilySupport), ("features", FeatureSupport)):
        fields[name] = tuple(
            kind(**{**one, "missing_packages": tuple(one["missing_packages"])})
            for one in fields.get(name, ())
        )
    return Capabilities(tuple(Backend(one) for one in fields.pop("backends")), **fields)


def progress_text(progress: Progress) -> str:
    """Progress as JSON."""
    fields = asdict(progress)
    if progress.update_time is not None:
        fields["update_time"] = progress.update_time.isoformat()
    return _dumps(fields)


def progress_of(text: str) -> Progress:
    """Progress from JSON."""
    fields = json.loads(text)
    if fields["update_time"] is not None:
        fields["update_time"] = datetime.fromisoformat(fields["update_time"])
    return Progress(**fields)


def _failure_text(failure: Failure | None) -> str | None:
    return None if failure is None else _dumps(asdict(failure))


def _failure_of(text: str | None) -> Failure | None:
    if text is None:
        return None
    fields = json.loads(text)
    return Failure(FailureCause(fields.pop("cause")), **fields)


def _dumps(value: Any) -> str:
    # NaN and infinity stay as they are: a diverged loss is worth showing.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
