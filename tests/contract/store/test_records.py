"""What every store gives back of what was put in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler_svc.application.ports import Guard, MonitorRecord, Store, StoredRequest, TimedRun
from scheduler_svc.domain.errors import JobIdTaken, JobNotFound, OutputDirTaken
from scheduler_svc.domain.failure import Failure, FailureCause
from scheduler_svc.domain.fleet import Capabilities, FamilySupport, FeatureSupport, Gpu, HeldSlot
from scheduler_svc.domain.job import JobId, JobOutput, Progress, TrainerId
from scheduler_svc.domain.requirement import Requirement
from scheduler_svc.domain.run import RunKey
from scheduler_svc.domain.states import JobState
from svckit.spec import Backend
from tests.unit.scheduler.builders import at, attempt, cpu, gpus, job, running, spec, trainer

FAILURE = Failure(FailureCause.CRASHED, "it fell over: ü", "look", "builtins.OSError", -9)


def test_a_job_comes_back_as_it_was_put_in(store: Store) -> None:
    full = job(
        "a",
        JobState.FAILED,
        spec=spec("a/b", gpus(2, 24, "x", ("0", "1")), run_timeout_seconds=1.5),
        display_name="ein Name",
        labels={"team": "nlp", "x.y": ""},
        priority=-7,
        attempt=2,
        attempts=(
            attempt(1, gpu_ids=("0", "1"), end_time=at(3.000001), failure=FAILURE, slot_held=False),
            attempt(2, "b", start_time=at(5), timed_out=True),
        ),
        failure=FAILURE,
        output=JobOutput("/out/a/b", "sha256:00"),
        retry_of=JobId("z"),
        recipe="recipes/r@3",
        not_before=at(7),
        start_time=at(1),
        end_time=at(9),
        delete_time=at(10),
    )

    with store.write() as tx:
        tx.insert_job(full)

    with store.read() as tx:
        assert tx.job(JobId("a")) == full
        assert tx.jobs([JobId("a"), JobId("none")]) == {JobId("a"): full}
        assert tx.job(JobId("none")) is None


def test_a_job_id_is_used_once(store: Store) -> None:
    with store.write() as tx:
        tx.insert_job(job("a"))

    with pytest.raises(JobIdTaken), store.write() as tx:
        tx.insert_job(job("a"))


def test_a_move_leaves_what_people_edit_alone_and_an_edit_leaves_the_state_alone(
    store: Store,
) -> None:
    before = job("a")
    with store.write() as tx:
        tx.insert_job(before)
    with store.write() as tx:
        edited = replace(before, priority=5, labels={"k": "v"}, display_name="d")
        tx.edit_job(replace(edited, state=JobState.FAILED))

    with store.write() as tx:
        tx.move_job(Guard(JobState.QUEUED, 0), replace(before, state=JobState.PAUSED))

    with store.read() as tx:
        assert tx.job(JobId("a")) == replace(edited, state=JobState.PAUSED)


def test_a_job_that_is_gone_cannot_be_edited(store: Store) -> None:
    with pytest.raises(JobNotFound), store.write() as tx:
        tx.edit_job(job("a"))


def test_a_trainer_comes_back_as_it_was_put_in(store: Store) -> None:
    full = trainer(
        "a",
        capabilities=Capabilities(
            (Backend.QLORA, Backend.SWIFT),
            3,
            "1.2",
            "store-1",
            {"BACKEND_SWIFT": "no env"},
            backend_notes={"BACKEND_QLORA": "no operators"},
            families=(FamilySupport("Qwen3-VL", "BACKEND_SWIFT", True, ("av",), "no type"),),
            features=(FeatureSupport("LoRA", "BACKEND_QLORA", ("peft",)),),
        ),
        gpus=(Gpu("0", 80, "GPU-0", "H200", 5, 99, 71, 300.5, (1, 2)), Gpu("1", 80)),
        cordoned=True,
        faulty_gpu_ids=frozenset({"1"}),
        lost_time=at(3),
        heartbeat_time=at(4),
        disk_bytes_free=1 << 45,
    )

    with store.write() as tx:
        tx.put_trainer(trainer("b"))
        tx.put_trainer(trainer("a"))
        tx.put_trainer(full)
        assert tx.trainer(TrainerId("a")) == full

    with store.read() as tx:
        assert tx.trainer(TrainerId("a")) == full
        assert tx.trainers() == [full, trainer("b")]
        assert tx.trainer(TrainerId("c")) is None


def test_slots_are_held_until_they_are_released(store: Store) -> None:
    with store.write() as tx:
        tx.insert_job(running("a"))
        tx.insert_job(job("b"))
        tx.put_attempt(JobId("b"), attempt(1, "b", gpu_ids=("3",)))

    with store.write() as tx:
        first = tx.release_slot(RunKey(JobId("a"), 1))
        again = tx.release_slot(RunKey(JobId("a"), 1))

    assert (first, again) == (True, False)
    with store.read() as tx:
        slot = HeldSlot(JobId("b"), 1, TrainerId("b"), ("3",))
        assert tx.held_slots() == [slot]
        assert tx.held_slots(TrainerId("b")) == [slot]
        assert tx.held_slots(TrainerId("a")) == []


@pytest.mark.parametrize("wanted", ["a", "a/b", "a/b/c", "a/b/c/d"])
def test_a_reserved_folder_takes_those_above_and_below_it(store: Store, wanted: str) -> None:
    with store.write() as tx:
        tx.reserve_output_dir("a/b/c", JobId("owner"))

    with pytest.raises(OutputDirTaken) as caught, store.write() as tx:
        tx.reserve_output_dir(wanted, JobId("other"))

    assert caught.value.metadata == {"job": "jobs/owner", "output_dir": "a/b/c"}


@pytest.mark.parametrize("wanted", ["b", "a/bc", "a/b-x", "a/b0", "a/c/b", "aa"])
def test_a_reserved_folder_leaves_its_neighbours_free(store: Store, wanted: str) -> None:
    with store.write() as tx:
        tx.reserve_output_dir("a/b", JobId("owner"))

    with store.write() as tx:
        tx.reserve_output_dir(wanted, JobId("other"))

    with store.read() as tx:
        assert tx.output_dir_owner(wanted) == (wanted, "other")


def test_a_released_folder_is_free_again(store: Store) -> None:
    with store.write() as tx:
        tx.reserve_output_dir("a", JobId("owner"))

    with store.write() as tx:
        tx.release_output_dir(JobId("owner"))

    with store.read() as tx:
        assert tx.output_dir_owner("a") is None


def test_the_queue_is_counted_no_further_than_asked(store: Store) -> None:
    with store.write() as tx:
        tx.insert_job(job("a"))
        tx.insert_job(job("b", JobState.HELD))
        tx.insert_job(job("c", JobState.CANCELLED))

    with store.read() as tx:
        counted = [tx.count_queue(limit) for limit in (1, 2, 10)]

    assert counted == [1, 2, 2]


def test_the_queue_is_read_by_requirement_in_its_order(store: Store) -> None:
    small, big = spec("s", gpus(1)), spec("b", gpus(8))
    with store.write() as tx:
        tx.insert_job(job("young", spec=small, create_time=at(2)))
        tx.insert_job(job("old", spec=small, create_time=at(1)))
        tx.insert_job(job("urgent", spec=small, create_time=at(3), priority=1))
        tx.insert_job(job("big", spec=big))
        tx.insert_job(job("held", JobState.HELD, spec=spec("h", cpu())))

    with store.read() as tx:
        shapes = tx.queue_shapes()
        heads = tx.queue_heads(Requirement.of(small), 2)
        everything = tx.queue_heads(Requirement.of(small), 9)

    assert set(shapes) == {Requirement.of(small), Requirement.of(big)}
    assert [head.job_id for head in heads] == ["urgent", "old"]
    assert [head.job_id for head in everything] == ["urgent", "old", "young"]


def test_a_new_priority_counts_in_the_queue(store: Store) -> None:
    with store.write() as tx:
        tx.insert_job(job("a"))
        tx.insert_job(job("b"))

    with store.write() as tx:
        tx.edit_job(replace(job("b"), priority=3))

    with store.read() as tx:
        heads = tx.queue_heads(Requirement.of(spec()), 9)
    assert [(head.job_id, head.priority) for head in heads] == [("b", 3), ("a", 0)]


def test_a_job_that_leaves_the_queue_is_not_offered_any_more(store: Store) -> None:
    with store.write() as tx:
        tx.insert_job(job("a"))

    with store.write() as tx:
        tx.move_job(Guard(JobState.QUEUED, 0), job("a", JobState.STARTING))

    with store.read() as tx:
        assert tx.queue_shapes() == []
        assert tx.queue_heads(Requirement.of(spec()), 9) == []


def test_recoveries_are_due_when_their_time_has_come_or_the_clock_went_back(store: Store) -> None:
    recovering = [
        job(one, JobState.RECOVERING, not_before=at(wait), update_time=at(update))
        for one, wait, update in [
            ("later", 61, 0),
            ("second", 60, 0),
            ("first", 10, 0),
            ("from-the-future", 4000, 3990),
        ]
    ]
    with store.write() as tx:
        for one in [*recovering, job("queued")]:
            tx.insert_job(one)

    with store.read() as tx:
        due = tx.due_recoveries(at(60), 10)
        only_one = tx.due_recoveries(at(60), 1)

    assert due == ["first", "second", "from-the-future"]
    assert only_one == ["first"]


def test_running_attempts_with_a_timeout_are_listed_until_they_are_stopped_for_it(
    store: Store,
) -> None:
    limited = spec("x", run_timeout_seconds=60.0)
    with store.write() as tx:
        tx.insert_job(running("limited", spec=limited))
        tx.insert_job(running("unlimited"))
        tx.insert_job(running("pausing", JobState.PAUSING, spec=limited))
        late = attempt(start_time=at(0), timed_out=True)
        tx.insert_job(replace(running("late", spec=limited), attempts=(late,)))

    with store.read() as tx:
        timed = tx.timed_runs()

    assert timed == [TimedRun(RunKey(JobId("limited"), 1), at(0), 60.0)]


def test_progress_is_kept_only_of_jobs_that_exist(store: Store) -> None:
    progress = Progress(
        3, 10, 0.3, loss=float("inf"), phase="x", update_time=at(1), revisions={"acme/tiny": "c0"}
    )
    with store.write() as tx:
        tx.insert_job(job("a"))

    with store.write() as tx:
        tx.put_progress({JobId("a"): Progress(1), JobId("gone"): Progress(1)})
        tx.put_progress({JobId("a"): progress})

    with store.read() as tx:
        found = tx.progress([JobId("a"), JobId("gone")])
        assert found == {JobId("a"): progress}
        assert tx.progress([]) == {}


def test_monitors_are_listed_the_latest_heard_of_first(store: Store) -> None:
    old = MonitorRecord("monitors/old", "old:1", 1, 5, at(1))
    new = MonitorRecord("monitors/new", "new:1", 2, 0, at(2))

    with store.write() as tx:
        tx.put_monitor(replace(old, position=0))
        tx.put_monitor(old)
        tx.put_monitor(new)

    with store.read() as tx:
        assert tx.monitors() == [new, old]


def test_a_removed_job_leaves_nothing_and_frees_its_names(store: Store) -> None:
    marked = replace(running("a"), delete_time=at(5), labels={"k": "v"})
    with store.write() as tx:
        tx.insert_job(marked)
        tx.insert_job(job("b"))
        tx.reserve_output_dir("a", JobId("a"))
        tx.insert_request(StoredRequest("r", "f", JobId("a")))
        tx.put_progress({JobId("a"): Progress(1)})
        tx.append_entry(JobId("a"), b"1")
        tx.append_entry(JobId("b"), b"2")
    with store.read() as tx:
        assert tx.deleted_before(at(4), 9) == []
        assert tx.deleted_before(at(5), 9) == ["a"]
        assert (tx.last_position_of(JobId("a")), tx.last_position_of(JobId("c"))) == (1, 0)

    with store.write() as tx:
        tx.remove_job(JobId("a"))

    with store.read() as tx:
        assert tx.job(JobId("a")) is None
        assert tx.held_slots() == []
        assert tx.output_dir_owner("a") is None
        assert tx.request("r") is None
        assert tx.progress([JobId("a")]) == {}
        assert [entry.payload for entry in tx.entries_after(0, 9)] == [b"2"]
    with store.write() as tx:
        tx.insert_job(job("a"))
