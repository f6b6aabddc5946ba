"""Records for tests, with everything filled in that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler_svc.domain.fleet import Capabilities, Gpu, HeldSlot, Host, Trainer, TrainerState
from scheduler_svc.domain.job import Attempt, Job, JobId, TrainerId
from scheduler_svc.domain.policy import QueuedJob
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.states import JobState
from svckit.spec import Backend, DataSource, JobSpec, ModelSource, Resources, RetryPolicy

START = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1 << 30


class ManualClock:
    """A clock that moves when a test says so."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds

    def jump_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.wall += timedelta(seconds=seconds)


class CountingIds:
    """job-1, job-2, ..."""

    def __init__(self) -> None:
        self.count = 0

    def new_job_id(self) -> str:
        self.count += 1
        return f"job-{self.count}"

    def new_uuid(self) -> str:
        return "database-1"


def at(seconds: float) -> datetime:
    """So many seconds after START."""
    return START + timedelta(seconds=seconds)


def cpu() -> Resources:
    """One CPU slot."""
    return Resources.model_validate({"accelerator": "cpu"})


def gpus(count: int, gib: int = 0, trainer: str = "", ids: tuple[str, ...] = ()) -> Resources:
    """GPUs of one host."""
    return Resources(
        gpu_ids=ids,
        gpu_count=count,
        gpu_memory_bytes_min=gib * GIB,
        trainer=f"trainers/{trainer}" if trainer else "",
    )


def spec(
    output_dir: str = "out",
    resources: Resources | None = None,
    attempts_max: int = 3,
    backoff_seconds: float = 10.0,
    **others: Any,
) -> JobSpec:
    """A spec; on a CPU unless told otherwise."""
    return JobSpec(
        model=ModelSource(name="Qwen/Qwen3-0.6B"),
        train_data=(DataSource(source="/data/a.jsonl"),),
        resources=resources or cpu(),
        retry_policy=RetryPolicy(attempts_max=attempts_max, backoff_seconds=backoff_seconds),
        output_dir=output_dir,
        **others,
    )


def job(job_id: str = "a", state: JobState = JobState.QUEUED, **others: Any) -> Job:
    """A job; its output_dir is its id unless a spec is given."""
    values: dict[str, Any] = {
        "spec": spec(job_id),
        "create_time": START,
        "update_time": START,
        "queue_time": START,
    }
    return Job(job_id=JobId(job_id), state=state, **{**values, **others})


def attempt(number: int = 1, trainer_id: str = "a", **others: Any) -> Attempt:
    """An attempt on a CPU slot."""
    values: dict[str, Any] = {"incarnation": "i1", "gpu_ids": (), "assign_time": START}
    return Attempt(number, TrainerId(trainer_id), **{**values, **others})


def running(job_id: str = "a", state: JobState = JobState.RUNNING, **others: Any) -> Job:
    """A job with one attempt on trainers/a."""
    return job(job_id, state, attempt=1, attempts=(attempt(start_time=START),), **others)


def trainer(trainer_id: str = "a", cpu_slots: int = 0, **others: Any) -> Trainer:
    """A trainer that can do QLoRA."""
    capabilities = Capabilities(backends=(Backend.QLORA,), cpu_slots=cpu_slots)
    values: dict[str, Any] = {
        "address": f"{trainer_id}:7402",
        "incarnation": "i1",
        "boot_id": "boot-1",
        "workspace_uuid": f"workspace-{trainer_id}",
        "capabilities": capabilities,
        "create_time": START,
    }
    return Trainer(trainer_id=TrainerId(trainer_id), **{**values, **others})


def some_gpus(count: int, gib: int = 80) -> tuple[Gpu, ...]:
    """GPUs 0, 1, ..."""
    return tuple(Gpu(str(index), gib * GIB) for index in range(count))


def host(
    trainer_id: str = "a",
    gpu_count: int = 0,
    gib: int = 80,
    *,
    cpu_slots: int = 0,
    state: TrainerState = TrainerState.READY,
    taken: tuple[str, ...] = (),
    **others: Any,
) -> Host:
    """A host; `taken` GPUs are held by jobs/other."""
    record = trainer(trainer_id, cpu_slots, gpus=some_gpus(gpu_count, gib), **others)
    slots = (HeldSlot(JobId("other"), 1, record.trainer_id, taken),) if taken else ()
    return Host(record, state, slots)


def fleet(*hosts: Host) -> dict[TrainerId, Host]:
    """Hosts by id."""
    return {one.trainer_id: one for one in hosts}


def queued(
    job_id: str, resources: Resources, priority: int = 0, age_seconds: float = 0.0
) -> QueuedJob:
    """A job that came into the queue so long before START."""
    time = at(-age_seconds)
    need = Requirement.of(spec(job_id, resources))
    return QueuedJob(JobId(job_id), priority, time, time, 0, need)
