"""What every store promises of transactions, guards and positions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from scheduler_svc.application.ports import Guard, Raced, Store, StoredRequest
from scheduler_svc.domain.errors import JobIdTaken, NotLeader, OutputDirTaken
from scheduler_svc.domain.job import Job, JobId
from scheduler_svc.domain.states import JobState
from scheduler_svc.storage.sql_store import SqlStore
from svckit.database import Database
from tests.unit.scheduler.builders import attempt, job, running

WRITERS = 8


def put(store: Store, *jobs: Job) -> None:
    with store.write() as tx:
        for one in jobs:
            tx.insert_job(one)


def stored(store: Store, job_id: str) -> Job:
    with store.read() as tx:
        found = tx.job(JobId(job_id))
    assert found is not None
    return found


def at_once(work: Callable[[int], object]) -> list[object]:
    """Runs the same work in eight threads that start together."""
    gate = threading.Barrier(WRITERS)

    def run(index: int) -> object:
        gate.wait()
        return work(index)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(run, range(WRITERS)))


def test_a_failed_transaction_leaves_nothing_behind(store: Store) -> None:
    put(store, job("kept", labels={"a": "1"}))

    with pytest.raises(JobIdTaken), store.write() as tx:
        tx.take_lead("uuid")
        tx.insert_job(job("new"))
        tx.reserve_output_dir("new", JobId("new"))
        tx.insert_request(StoredRequest("r", "f", JobId("new")))
        tx.edit_job(replace(job("kept"), priority=9))
        tx.put_attempt(JobId("kept"), attempt())
        tx.append_entry(JobId("new"), b"x")
        tx.insert_job(job("kept"))

    with store.read() as tx:
        assert tx.installation() is None
        assert tx.job(JobId("new")) is None
        assert tx.output_dir_owner("new") is None
        assert tx.request("r") is None
        assert tx.held_slots() == []
        assert tx.entries_after(0, 10) == []
        assert tx.job(JobId("kept")) == job("kept", labels={"a": "1"})


def test_a_guarded_move_happens_only_from_the_state_it_was_decided_in(store: Store) -> None:
    put(store, job("a"))
    read = stored(store, "a")
    with store.write() as tx:
        first = tx.move_job(Guard(read.state, 0), replace(read, state=JobState.CANCELLED))

    with store.write() as tx:
        second = tx.move_job(Guard(read.state, 0), replace(read, state=JobState.STARTING))

    assert (first, second) == (True, False)
    assert stored(store, "a").state is JobState.CANCELLED


def test_a_guarded_move_happens_only_in_the_attempt_it_was_decided_in(store: Store) -> None:
    put(store, running("a"))

    with store.write() as tx:
        done = replace(running("a"), state=JobState.FAILED)
        old = tx.move_job(Guard(JobState.RUNNING, 2), done)
        other_start = tx.move_job(Guard(JobState.RUNNING, 1, "i2"), done)
        current = tx.move_job(Guard(JobState.RUNNING, 1, "i1"), done)

    assert (old, other_start, current) == (False, False, True)


def test_a_move_of_a_job_that_is_gone_moves_nothing(store: Store) -> None:
    with store.write() as tx:
        moved = tx.move_job(Guard(JobState.QUEUED, 0), job("a"))

    assert not moved


def test_of_eight_moves_at_once_exactly_one_wins(store: Store) -> None:
    put(store, job("a"))
    read = stored(store, "a")

    def move(_index: int) -> bool:
        with store.write() as tx:
            return tx.move_job(Guard(read.state, 0), replace(read, state=JobState.STARTING))

    won = at_once(move)

    assert sorted(map(bool, won)) == [False] * 7 + [True]


def test_of_eight_requests_at_once_exactly_one_is_stored(store: Store) -> None:
    def request(index: int) -> str:
        try:
            with store.write() as tx:
                tx.insert_job(job(f"job-{index}"))
                tx.insert_request(StoredRequest("r", "f", JobId(f"job-{index}")))
        except Raced:
            return "raced"
        return "stored"

    results = at_once(request)

    assert sorted(map(str, results)) == ["raced"] * 7 + ["stored"]
    with store.read() as tx:
        there = [index for index in range(WRITERS) if tx.job(JobId(f"job-{index}"))]
        request_there = tx.request("r")
    assert request_there is not None
    assert [f"job-{index}" for index in there] == [request_there.job_id]


def test_of_eight_reservations_of_one_folder_exactly_one_holds(store: Store) -> None:
    def reserve(index: int) -> bool:
        try:
            with store.write() as tx:
                tx.reserve_output_dir("out", JobId(f"job-{index}"))
        except (OutputDirTaken, Raced):
            return False
        return True

    results = at_once(reserve)

    assert sorted(map(bool, results)) == [False] * 7 + [True]


def test_positions_follow_each_other_without_a_hole(store: Store) -> None:
    with store.write() as tx:
        tx.append_entry(JobId("a"), b"1")
        tx.append_entry(JobId("b"), b"2")
    with store.write() as tx:
        tx.append_entry(JobId("a"), b"3")

    with store.read() as tx:
        entries = tx.entries_after(0, 10)
        rest = tx.entries_after(entries[0].position, 1)

    assert [entry.payload for entry in entries] == [b"1", b"2", b"3"]
    assert [entry.position for entry in entries] == [1, 2, 3]
    assert [entry.payload for entry in rest] == [b"2"]


def test_a_reader_with_a_cursor_loses_nothing_under_concurrent_writers(store: Store) -> None:
    """Ids from a sequence would be seen out of order here, and a reader would skip some."""
    each = 12
    seen: list[bytes] = []
    ended = threading.Event()

    def follow() -> None:
        cursor = 0
        while True:
            last_look = ended.is_set()
            with store.read() as tx:
                found = tx.entries_after(cursor, 5)
            if found:
                seen.extend(entry.payload for entry in found)
                cursor = found[-1].position
            elif last_look:
                return

    def write(index: int) -> None:
        for number in range(each):
            with store.write() as tx:
                tx.append_entry(JobId("a"), b"%d.%d" % (index, number))

    reader = threading.Thread(target=follow)
    reader.start()
    at_once(write)
    ended.set()
    reader.join()

    assert len(seen) == WRITERS * each
    assert len(set(seen)) == WRITERS * each
    for index in range(WRITERS):
        own = [payload for payload in seen if payload.startswith(b"%d." % index)]
        assert own == [b"%d.%d" % (index, number) for number in range(each)]


def test_a_transaction_that_began_first_and_commits_last_is_not_overtaken_by_a_cursor(
    postgres: Database,
) -> None:
    store = SqlStore(postgres)
    with store.write() as slow:
        slow.append_entry(JobId("slow"), b"slow")
        with store.write() as fast:
            fast.append_entry(JobId("fast"), b"fast")
        with store.read() as tx:
            seen = tx.entries_after(0, 10)

    with store.read() as tx:
        rest = tx.entries_after(seen[-1].position, 10)

    assert [entry.payload for entry in seen] == [b"fast"]
    assert [entry.payload for entry in rest] == [b"slow"]


def test_each_lead_is_a_new_generation_of_the_same_database(store: Store) -> None:
    with store.write() as tx:
        first = tx.take_lead("uuid-1")

    with store.write() as tx:
        second = tx.take_lead("uuid-2")

    assert (first.database_uuid, first.generation) == ("uuid-1", 1)
    assert (second.database_uuid, second.generation) == ("uuid-1", 2)
    with store.read() as tx:
        assert tx.installation() == second


def test_a_lead_goes_on_above_what_it_is_told(store: Store) -> None:
    with store.write() as tx:
        low = tx.take_lead("uuid", generation_min=100, position_min=1000)
        tx.append_entry(JobId("a"), b"first")

    with store.write() as tx:
        high = tx.take_lead("uuid", generation_min=50, position_min=500)
        tx.append_entry(JobId("a"), b"second")

    assert (low.generation, high.generation) == (100, 101)
    with store.read() as tx:
        assert [one.position for one in tx.entries_after(0, 10)] == [1001, 1002]


def test_a_leader_that_was_replaced_changes_nothing(store: Store) -> None:
    with store.write() as tx:
        old = tx.take_lead("uuid")
    with store.write() as tx:
        tx.take_lead("uuid")

    with pytest.raises(NotLeader), store.write() as tx:
        tx.insert_job(job("a"))
        tx.require_lead(old.generation)

    with store.read() as tx:
        assert tx.job(JobId("a")) is None
