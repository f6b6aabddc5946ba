"""The sentence that says why a job waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.fleet import Capabilities, Host, TrainerState
from scheduler_svc.domain.pending import pending_reason
from scheduler_svc.domain.states import JobState
from svckit.spec import Backend, Resources
from tests.unit.scheduler.builders import (
    START,
    at,
    attempt,
    cpu,
    fleet,
    gpus,
    host,
    job,
    running,
    spec,
)


def foreign(one: Host) -> Host:
    """Somebody else computes on its first GPU."""
    first, *rest = one.trainer.gpus
    shared = (replace(first, foreign_pids=(7,)), *rest)
    return replace(one, trainer=replace(one.trainer, gpus=shared))


NO_GPU = "no registered trainer has a GPU; add one, or submit a CPU job"


@pytest.mark.parametrize(
    ("resources", "hosts", "expected"),
    [
        (gpus(1), [], "no trainers are registered"),
        (gpus(1, trainer="x"), [host("a", 1)], "no trainer named x is registered"),
        (gpus(8), [host("a", 4), host("b", 2)], "no trainer has more than 4 GPUs"),
        (gpus(1), [host("a", cpu_slots=1)], NO_GPU),
        (gpus(1, ids=("0",)), [host("a", cpu_slots=1)], NO_GPU),
        (
            gpus(1, trainer="a"),
            [host("a", cpu_slots=1), host("b", 1)],
            "trainers/a has no GPU; add one, or submit a CPU job",
        ),
        (gpus(8, trainer="a"), [host("a", 4)], "needs 8 GPUs; trainers/a has 4 GPUs"),
        (
            gpus(2, 100),
            [host("a", 4, 80)],
            "no trainer has 2 GPUs of 100 GiB; the largest GPU has 80 GiB",
        ),
        (
            gpus(1, trainer="a", ids=("7",)),
            [host("a", 2)],
            "gpu id 7 does not exist on trainers/a",
        ),
        (gpus(2, ids=("7", "8")), [host("a", 2)], "gpu ids 7, 8 do not exist on any trainer"),
        (cpu(), [host("a", 2)], "no trainer has CPU slots"),
        (
            gpus(2, 24),
            [host("a", 2, taken=("0",)), host("b", 2, cordoned=True)],
            "needs 2 GPUs of 24 GiB; a has 1 free, b is cordoned",
        ),
        (
            gpus(2),
            [host("a", 2, taken=("0",), cordoned=True), host("b", 2, state=TrainerState.SUSPECT)],
            "needs 2 GPUs; a is draining (1 job left), b has not been heard of for a while",
        ),
        (gpus(1), [host("a", 1, state=TrainerState.LOST)], "needs 1 GPU; a is lost"),
        (
            gpus(2),
            [foreign(host("a", 3, faulty_gpu_ids=frozenset({"1"})))],
            (
                "needs 2 GPUs; a has 1 free and has somebody else's processes on gpu 0 "
                "and has a fault on gpu 1"
            ),
        ),
        (
            gpus(1, trainer="a", ids=("0",)),
            [host("a", 2, taken=("0",))],
            "needs gpu 0; a uses gpu 0 for jobs/other",
        ),
        (
            gpus(1),
            [host("a", 1)],
            "needs 1 GPU; a place is free, it is next unless jobs before it take that",
        ),
        (
            gpus(1),
            [host(f"h{index}", 1, taken=("0",)) for index in range(8)],
            (
                "needs 1 GPU; h0 has 0 free, h1 has 0 free, h2 has 0 free, h3 has 0 free, "
                "h4 has 0 free and 3 more"
            ),
        ),
    ],
)
def test_a_queued_job_says_what_it_needs_and_what_is_in_the_way(
    resources: Resources, hosts: list[Host], expected: str
) -> None:
    waiting = job(spec=spec(resources=resources))

    assert pending_reason(waiting, fleet(*hosts), START) == expected


def test_a_busy_cpu_host_says_how_many_slots_it_has() -> None:
    full = host("a", cpu_slots=2)
    held = replace(full, slots=host("a", 1, taken=("0",)).slots)
    held = replace(held, slots=tuple(replace(one, gpu_ids=()) for one in held.slots * 2))

    assert pending_reason(job(), fleet(held), START) == "needs a CPU slot; a has 0 of 2 free"


def test_a_missing_backend_is_named_with_its_reason() -> None:
    capabilities = Capabilities((Backend.QLORA,), 1, missing_backends={"BACKEND_SWIFT": "no env"})
    one = host("a", capabilities=capabilities)

    reason = pending_reason(job(spec=spec(backend="swift")), fleet(one), START)

    assert reason == "no trainer has the swift backend (a: no env)"


def test_a_recovering_job_says_when_and_after_what() -> None:
    failed = attempt(failure=Failure(FailureCause.CRASHED, "exit code 1"))
    waiting = job(state=JobState.RECOVERING, attempt=1, attempts=(failed,), not_before=at(12))

    reason = pending_reason(waiting, {}, START)

    assert reason == "waits for its next try in 12 s after attempt 1 failed: exit code 1"


def test_a_publishing_job_says_so_only_when_its_host_is_silent() -> None:
    publishing = running(state=JobState.PUBLISHING)
    lost = host("a", state=TrainerState.LOST, heartbeat_time=at(0))

    assert pending_reason(publishing, fleet(host("a")), START) == ""
    assert pending_reason(publishing, fleet(lost), START) == (
        "trainers/a, which publishes the result, has not been heard of since "
        "2026-01-01 00:00:00 UTC; it is waited for, and an administrator can abandon the job"
    )


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.HELD, JobState.SUCCEEDED])
def test_other_jobs_wait_for_nothing(state: JobState) -> None:
    assert pending_reason(running(state=state), {}, START) == ""
