"""Why a job waits, in words a person can act on.

Pure; derived when a job is read, stored nowhere. Says first what will never
change by waiting, then what is in the way on each trainer; long lists are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scheduler_svc.domain.fleet import Fleet, Host, TrainerState
from scheduler_svc.domain.job import Job
from scheduler_svc.domain.policy import fits_now
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.states import JobState

HOSTS_NAMED_MAX = 5
FAILURE_TEXT_MAX = 200
_GIB = 1 << 30


def pending_reason(job: Job, fleet: Fleet, now: datetime) -> str:
    """The sentence for a job that is QUEUED, RECOVERING or PUBLISHING; empty for others."""
    match job.state:
        case JobState.QUEUED:
            return queued_reason(Requirement.of(job.spec), fleet)
        case JobState.RECOVERING:
            return _recovering_reason(job, now)
        case JobState.PUBLISHING:
            return _publishing_reason(job, fleet)
        case _:
            return ""


def queued_reason(need: Requirement, fleet: Fleet) -> str:
    """Why a job with this requirement waits."""
    if not fleet:
        return "no trainers are registered"
    if need.trainer_id is not None and need.trainer_id not in fleet:
        return f"no trainer named {need.trainer_id} is registered"
    hosts = [fleet[need.trainer_id]] if need.trainer_id else list(fleet.values())
    never = _never(need, hosts)
    if never:
        return never
    if any(fits_now(need, host) for host in hosts):
        return f"{_need(need)}; a place is free, it is next unless jobs before it take that"
    capable = [host for host in hosts if _has_the_hardware(need, host)]
    return f"{_need(need)}; {cut([_obstacle(need, host) for host in capable])}"


def _never(need: Requirement, hosts: Sequence[Host]) -> str:
    """What no waiting will change; empty if a trainer has what it takes."""
    able = [host for host in hosts if need.backend in host.trainer.capabilities.backends]
    if not able:
        return no_backend(need, hosts)
    named = need.trainer_id is not None
    subject = f"trainers/{need.trainer_id} has" if named else "no trainer has"
    if need.on_cpu:
        if any(host.trainer.capabilities.cpu_slots for host in able):
            return ""
        return f"{subject} {'no ' if named else ''}CPU slots"
    if any(_has_the_hardware(need, host) for host in able):
        return ""
    return _no_such_gpus(need, able)


def no_backend(need: Requirement, hosts: Sequence[Host]) -> str:
    """That none of these trainers has the backend, and why."""
    backend = need.backend
    why = [
        f"{host.trainer_id}: {text}"
        for host in hosts
        if (text := host.trainer.capabilities.missing_backends.get(backend.value))
    ]
    subject = f"trainers/{need.trainer_id} lacks" if need.trainer_id else "no trainer has"
    return f"{subject} the {backend.short_name} backend" + (f" ({cut(why)})" if why else "")


def _no_such_gpus(need: Requirement, hosts: Sequence[Host]) -> str:
    named = f"trainers/{need.trainer_id}" if need.trainer_id else ""
    most = max(len(host.trainer.gpus) for host in hosts)
    if not most:
        subject = f"{named} has no GPU" if named else "no registered trainer has a GPU"
        return f"{subject}; add one, or submit a CPU job"
    missing = _ids_nobody_has(need, hosts)
    if missing:
        where = f"on {named}" if named else "on any trainer"
        ids = "gpu id" if len(missing) == 1 else "gpu ids"
        verb = "does" if len(missing) == 1 else "do"
        return f"{ids} {', '.join(missing)} {verb} not exist {where}"
    if need.gpu_count > most:
        if named:
            return f"{_need(need)}; {named} has {_gpus(most)}"
        return f"no trainer has more than {_gpus(most)}"
    largest = max(gpu.memory_bytes_total for host in hosts for gpu in host.trainer.gpus)
    have = f"{named} has no" if named else "no trainer has"
    if need.gpu_ids:
        return f"{have} gpu ids {', '.join(need.gpu_ids)} with {_memory(need)} each"
    return f"{have} {_wanted(need)}; the largest GPU has {_size(largest)}"


def _ids_nobody_has(need: Requirement, hosts: Sequence[Host]) -> list[str]:
    there = {gpu.gpu_id for host in hosts for gpu in host.trainer.gpus}
    return [gpu_id for gpu_id in need.gpu_ids if gpu_id not in there]


def _has_the_hardware(need: Requirement, host: Host) -> bool:
    """Whether it would fit if nothing and nobody used the host."""
    trainer = host.trainer
    if need.backend not in trainer.capabilities.backends:
        return False
    if need.on_cpu:
        return trainer.capabilities.cpu_slots > 0
    big_enough = {
        gpu.gpu_id for gpu in trainer.gpus if gpu.memory_bytes_total >= need.gpu_memory_bytes_min
    }
    if need.gpu_ids:
        return big_enough.issuperset(need.gpu_ids)
    return len(big_enough) >= need.gpu_count


def _obstacle(need: Requirement, host: Host) -> str:
    name = host.trainer_id
    shut = why_no_work(host)
    if shut:
        return shut
    if need.on_cpu:
        return f"{name} has {host.cpu_slots_free} of {host.trainer.capabilities.cpu_slots} free"
    return f"{name} {_gpu_obstacle(need, host)}"


def why_no_work(host: Host) -> str:
    """Why nothing new goes to a trainer, whatever is free there; empty where something does."""
    name = host.trainer_id
    if host.state is TrainerState.LOST:
        return f"{name} is lost"
    if host.state is TrainerState.SUSPECT:
        return f"{name} has not been heard of for a while"
    if host.trainer.cordoned:
        jobs = len(host.slots)
        what = "job" if jobs == 1 else "jobs"
        return f"{name} is draining ({jobs} {what} left)" if jobs else f"{name} is cordoned"
    return ""


def _gpu_obstacle(need: Requirement, host: Host) -> str:
    holders = host.gpu_holders
    gpus = [gpu for gpu in host.trainer.gpus if not need.gpu_ids or gpu.gpu_id in need.gpu_ids]
    foreign = [gpu.gpu_id for gpu in gpus if gpu.foreign_pids and gpu.gpu_id not in holders]
    faulty = [gpu.gpu_id for gpu in gpus if gpu.gpu_id in host.trainer.faulty_gpu_ids]
    parts = [f"has {len(host.free_gpus(need.gpu_memory_bytes_min))} free"]
    if need.gpu_ids:
        taken = [f"gpu {gpu_id} for jobs/{holders[gpu_id]}" for gpu_id in need.gpu_ids
                 if gpu_id in holders]  # fmt: skip
        parts = [f"uses {cut(taken)}"] if taken else []
    if foreign:
        parts.append(f"has somebody else's processes on gpu {cut(foreign)}")
    if faulty:
        parts.append(f"has a fault on gpu {cut(faulty)}")
    return " and ".join(parts)


def _recovering_reason(job: Job, now: datetime) -> str:
    seconds = (job.not_before - now).total_seconds() if job.not_before else 0.0
    text = f"waits for its next try in {max(0, round(seconds))} s"
    last = job.current
    if last is None or last.failure is None:
        return text
    return f"{text} after attempt {last.attempt} failed: {last.failure.message[:FAILURE_TEXT_MAX]}"


def _publishing_reason(job: Job, fleet: Fleet) -> str:
    if job.current is None:
        return ""
    name = job.current.trainer_id
    host = fleet.get(name)
    if host is not None and host.state is TrainerState.READY:
        return ""
    since = host.trainer.heartbeat_time if host else None
    when = f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
    return (
        f"trainers/{name}, which publishes the result, has not been heard of{when}; "
        "it is waited for, and an administrator can abandon the job"
    )


def _need(need: Requirement) -> str:
    if need.on_cpu:
        return "needs a CPU slot"
    if need.gpu_ids:
        return f"needs gpu {', '.join(need.gpu_ids)}"
    return f"needs {_wanted(need)}"


def _wanted(need: Requirement) -> str:
    if not need.gpu_memory_bytes_min:
        return _gpus(need.gpu_count)
    return f"{_gpus(need.gpu_count)} of {_memory(need)}"


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _memory(need: Requirement) -> str:
    return _size(need.gpu_memory_bytes_min)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.4g} GiB"


def cut(texts: Sequence[str]) -> str:
    """The first few, and how many more."""
    named = ", ".join(texts[:HOSTS_NAMED_MAX])
    left = len(texts) - HOSTS_NAMED_MAX
    return f"{named} and {left} more" if left > 0 else named
