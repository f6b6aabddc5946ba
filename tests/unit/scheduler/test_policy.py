"""Who gets what."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.domain.fleet import Gpu, HeldSlot, Host, TrainerState
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.domain.policy import (
    Placement,
    QueuedJob,
    assign,
    fits_when_empty,
    heads_needed,
    queue_order,
)
from scheduler_svc.domain.requirement import Requirement
from svckit.spec import Resources
from tests.unit.scheduler.builders import (
    GIB,
    START,
    cpu,
    fleet,
    gpus,
    host,
    queued,
    spec,
)

PATIENCE = 600.0


def placed(queue: list[QueuedJob], *hosts: Host) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = assign(queue, fleet(*hosts), START, PATIENCE)
    return {one.job_id: (one.trainer_id, one.gpu_ids) for one in found}


def test_priority_goes_first_and_then_age() -> None:
    jobs = [
        queued("young", gpus(1)),
        queued("old", gpus(1), age_seconds=9),
        queued("urgent", gpus(1), priority=1),
    ]

    found = placed(jobs, host("a", 2))

    assert set(found) == {"urgent", "old"}


def test_what_does_not_fit_blocks_nobody() -> None:
    jobs = [queued("big", gpus(8), priority=9), queued("small", gpus(1))]

    assert placed(jobs, host("a", 2)) == {"small": ("a", ("0",))}


def test_memory_ids_trainer_and_backend_are_kept_to() -> None:
    roomy, small = host("a", 2, 80), host("b", 2, 24)

    assert placed([queued("j", gpus(1, 40))], small, roomy) == {"j": ("a", ("0",))}
    assert placed([queued("j", gpus(1, 100))], small, roomy) == {}
    assert placed([queued("j", gpus(1, trainer="b"))], small, roomy) == {"j": ("b", ("0",))}
    assert placed([queued("j", gpus(1, trainer="c"))], small, roomy) == {}
    assert placed([queued("j", gpus(1, ids=("1",)))], small) == {"j": ("b", ("1",))}
    assert placed([queued("j", gpus(1, ids=("7",)))], small, roomy) == {}
    swift = QueuedJob(
        queued("j", cpu()).job_id, 0, START, START, 0,
        Requirement.of(spec(backend="swift")),
    )  # fmt: skip
    assert placed([swift], host("a", cpu_slots=1)) == {}


def with_gpus(one: Host, *found: Gpu) -> Host:
    return replace(one, trainer=replace(one.trainer, gpus=found))


def test_a_gpu_that_is_taken_used_by_others_or_faulty_is_not_handed_out() -> None:
    busy = host("a", 3, taken=("0",), faulty_gpu_ids=frozenset({"1"}))
    taken, faulty, free = busy.trainer.gpus
    shared = with_gpus(busy, taken, faulty, replace(free, foreign_pids=(7,)))

    assert placed([queued("j", gpus(1))], busy) == {"j": ("a", ("2",))}
    assert placed([queued("j", gpus(1))], shared) == {}


def test_a_host_that_is_cordoned_suspect_or_lost_gets_nothing_new() -> None:
    hosts = [
        host("a", 1, cordoned=True),
        host("b", 1, state=TrainerState.SUSPECT),
        host("c", 1, state=TrainerState.LOST),
    ]

    assert placed([queued("j", gpus(1))], *hosts) == {}


def test_cpu_jobs_take_slots_and_no_gpus() -> None:
    jobs = [queued(f"j{index}", cpu(), age_seconds=9 - index) for index in range(3)]

    found = placed(jobs, host("a", 1, cpu_slots=2))

    assert found == {"j0": ("a", ()), "j1": ("a", ())}


def test_the_tightest_place_is_taken_so_that_big_ones_stay() -> None:
    hosts = [host("a", 8), host("b", 2, taken=("0",))]

    assert placed([queued("j", gpus(1))], *hosts) == {"j": ("b", ("1",))}


def test_the_smallest_gpus_that_do_are_taken() -> None:
    big = host("a", 2, 80)
    mixed = with_gpus(big, *big.trainer.gpus, Gpu("2", 24 * GIB))

    assert placed([queued("j", gpus(1))], mixed) == {"j": ("a", ("2",))}


def test_a_big_job_that_waits_too_long_keeps_a_trainer_free_from_later_ones() -> None:
    half_full = host("a", 2, taken=("0",))
    small = queued("small", gpus(1), age_seconds=1)

    patient = placed([queued("big", gpus(2), age_seconds=PATIENCE - 1), small], half_full)
    starved = placed([queued("big", gpus(2), age_seconds=PATIENCE), small], half_full)

    assert patient == {"small": ("a", ("1",))}
    assert starved == {}


def test_a_job_of_higher_priority_passes_a_reservation() -> None:
    jobs = [queued("big", gpus(2), age_seconds=PATIENCE), queued("urgent", gpus(1), priority=1)]

    assert placed(jobs, host("a", 2, taken=("0",))) == {"urgent": ("a", ("1",))}


def test_a_job_that_fits_nowhere_reserves_nothing() -> None:
    jobs = [queued("huge", gpus(64), age_seconds=PATIENCE * 2), queued("small", gpus(1))]

    assert placed(jobs, host("a", 2)) == {"small": ("a", ("0",))}


def test_a_reservation_takes_the_emptiest_trainer_and_leaves_the_others_and_cpu_slots() -> None:
    hosts = [host("a", 4, taken=("0", "1"), cpu_slots=1), host("b", 4, taken=("0",))]
    jobs = [
        queued("big", gpus(4), age_seconds=PATIENCE),
        queued("small", gpus(1)),
        queued("tiny", cpu()),
    ]

    assert placed(jobs, *hosts) == {"small": ("a", ("2",)), "tiny": ("a", ())}


def test_jobs_of_one_kind_reserve_one_trainer_together() -> None:
    hosts = [host("a", 2, taken=("0",)), host("b", 2, taken=("0",))]
    jobs = [queued(f"big{index}", gpus(2), age_seconds=PATIENCE + index) for index in range(5)]

    assert placed([*jobs, queued("small", gpus(1))], *hosts) == {"small": ("b", ("1",))}


RESOURCES = [cpu(), gpus(1), gpus(2), gpus(1, 40), gpus(4), gpus(1, trainer="a"),
             gpus(1, ids=("1",)), gpus(9)]  # fmt: skip
random_jobs = st.lists(
    st.tuples(st.sampled_from(RESOURCES), st.integers(-1, 1), st.integers(0, 1200)), max_size=14
)
random_hosts = st.lists(
    st.builds(
        lambda count, gib, slots, taken: (count, gib, slots, taken),
        st.integers(0, 4),
        st.sampled_from([24, 80]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=3,
)


def _hosts(drawn: list[tuple[int, int, int, bool]]) -> dict[TrainerId, Host]:
    return fleet(
        *(
            host("abc"[index], count, gib, cpu_slots=slots, taken=("0",) if taken and count else ())
            for index, (count, gib, slots, taken) in enumerate(drawn)
        )
    )


def _queue(drawn: list[tuple[Resources, int, int]]) -> list[QueuedJob]:
    return [
        queued(f"j{index:02}", resources, priority, age)
        for index, (resources, priority, age) in enumerate(drawn)
    ]


@settings(max_examples=300, deadline=None)
@given(random_jobs, random_hosts)
def test_no_slot_is_given_twice_and_nothing_that_fits_is_left(
    jobs: list[tuple[Resources, int, int]], hosts: list[tuple[int, int, int, bool]]
) -> None:
    there = _hosts(hosts)
    queue = _queue(jobs)

    found = assign(queue, there, START, reservation_after_seconds=1e9)

    given_out = [(one.trainer_id, gpu) for one in found for gpu in one.gpu_ids]
    assert len(given_out) == len(set(given_out))
    assert (
        not {("a", "0"), ("b", "0"), ("c", "0")}
        & set(given_out)
        & {(one.trainer_id, gpu) for one in there.values() for gpu in one.gpu_holders}
    )
    for one in there.values():
        cpu_jobs = [job for job in found if job.trainer_id == one.trainer_id and not job.gpu_ids]
        assert len(cpu_jobs) <= one.trainer.capabilities.cpu_slots
    left = [job for job in queue if job.job_id not in {one.job_id for one in found}]
    assert assign(left, _after(there, found), START, 1e9) == []


def _after(hosts: dict[TrainerId, Host], found: list[Placement]) -> dict[TrainerId, Host]:
    after = dict(hosts)
    for one in found:
        slot = HeldSlot(one.job_id, 1, one.trainer_id, one.gpu_ids)
        after[one.trainer_id] = after[one.trainer_id].with_slot(slot)
    return after


@settings(max_examples=300, deadline=None)
@given(random_jobs, random_hosts, st.randoms(use_true_random=False))
def test_the_heads_of_each_kind_are_all_that_a_round_needs(
    jobs: list[tuple[Resources, int, int]],
    hosts: list[tuple[int, int, int, bool]],
    order: random.Random,
) -> None:
    there = _hosts(hosts)
    queue = _queue(jobs)
    heads: list[QueuedJob] = []
    for key in {one.requirement.key for one in queue}:
        same = sorted((one for one in queue if one.requirement.key == key), key=queue_order)
        heads += same[: heads_needed(Requirement.parse(key), there)]
    order.shuffle(queue)

    assert assign(heads, there, START, PATIENCE) == assign(queue, there, START, PATIENCE)


def test_a_requirement_s_key_is_read_back() -> None:
    for resources in RESOURCES:
        need = Requirement.of(spec("x", resources))

        assert Requirement.parse(need.key) == need
        assert fits_when_empty(need, host("z", 9, cpu_slots=1)) is (need.trainer_id is None)
