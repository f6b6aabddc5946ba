"""What every store of the monitor must do: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor_svc.domain.admission import Outcome
from monitor_svc.domain.entries import LOG, METRICS
from monitor_svc.domain.ports import Store
from monitor_svc.domain.records import SCHEDULER_KEY, Arrival, Cursor, Retention
from monitor_svc.storage.memory import MemoryStore
from monitor_svc.storage.sql_store import MIGRATIONS, open_sql_store
from monitor_svc.storage.tables import VERSION_TABLE, metadata
from svckit.database import Database
from svckit.migrations import drift, migrate
from tests.unit.monitor.made_entries import (
    created,
    event,
    line,
    metrics,
    payloads,
    succeeded,
)

JOB = "jobs/a"
OTHER = "jobs/b"
TRAINER = "trainers/t"
SPOOL = "runs/a/1/spool"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A fresh store that knows a scheduler (epoch 1) and a trainer (epoch 1)."""
    if request.param == "memory":
        yield _with_leases(MemoryStore())
        return
    url = f"sqlite:///{tmp_path}/monitor.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")
    database = Database(url)
    yield _with_leases(open_sql_store(database))
    database.close()


def _with_leases(store: Store) -> Store:
    store.know({SCHEDULER_KEY: "127.0.0.1:1", TRAINER: "127.0.0.1:2"})
    for source in store.sources():
        assert store.claim(source, "me", "monitors/m", 1) == 1
    return store


def arrival(*entries: Any, start: int = 0, end: int | None = None, **changes: Any) -> Arrival:
    """A batch of the trainer's spool, whose positions count entries."""
    values: dict[str, Any] = {"key": TRAINER, "epoch": 1, "source": "w", "stream": SPOOL} | changes
    end = start + len(entries) if end is None else end
    return Arrival(start=start, end=end, entries=entries, **values)


def events(*entries: Any, start: int = 0, **changes: Any) -> Arrival:
    """A batch of the scheduler's events."""
    values: dict[str, Any] = {"key": SCHEDULER_KEY, "source": "db", "stream": "events"} | changes
    return arrival(*entries, start=start, **values)


def stored(store: Store, job: str = JOB) -> list[Any]:
    """All entries of a job, gaps in their places."""
    page = store.read_job(job, 0, 1000)
    return [
        entry
        for one in page.entries
        for entry in ([one.gap] if one.gap is not None else []) + [one.entry]
    ]


def test_sequences_count_each_job_and_positions_count_them_all(store: Store) -> None:
    batch = [metrics(JOB, 1), metrics(OTHER, 1), metrics(JOB, 2)]

    outcomes, appended = store.append([arrival(*batch)], 5.0)

    assert outcomes == [Outcome.STORED]
    assert (appended.previous, appended.position) == (0, 3)
    assert [(e.stored.job, e.stored.sequence, e.stored.position) for e in appended.entries] == [
        (JOB, 1, 1),
        (OTHER, 1, 2),
        (JOB, 2, 3),
    ]
    assert [e.entry.sequence for e in store.read_job(JOB, 0, 10).entries] == [1, 2]


def test_entries_come_back_as_they_went_in(store: Store) -> None:
    said = line(JOB, "ein Zug \N{STEAM LOCOMOTIVE}")

    store.append([arrival(said)], 5.0)

    (back,) = store.read_job(JOB, 0, 10).entries
    assert back.entry.log_line.text == "ein Zug \N{STEAM LOCOMOTIVE}"
    assert back.kind == LOG
    assert back.size_bytes == back.entry.ByteSize()


def test_a_batch_that_comes_twice_is_stored_once(store: Store) -> None:
    batch = arrival(metrics(JOB, 1), metrics(JOB, 2))
    store.append([batch], 5.0)

    outcomes, appended = store.append([batch, batch], 5.0)

    assert outcomes == [Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert appended.entries == []
    assert store.heads([JOB])[JOB].last_sequence == 2


def test_a_batch_that_overlaps_or_leaves_a_hole_is_refused(store: Store) -> None:
    store.append([arrival(metrics(JOB, 1), metrics(JOB, 2))], 5.0)

    overlapping, _ = store.append([arrival(metrics(JOB, 2), metrics(JOB, 3), start=1)], 5.0)
    hole, _ = store.append([arrival(metrics(JOB, 9), start=8)], 5.0)

    assert overlapping == hole == [Outcome.MISPLACED]
    assert store.cursors("w", 10) == [Cursor("w", SPOOL, 2)]


def test_an_old_epoch_stores_nothing(store: Store) -> None:
    seen = next(source for source in store.sources() if source.key == TRAINER)
    store.claim(seen, "other", "monitors/o", 1)

    outcomes, _ = store.append([arrival(metrics(JOB, 1))], 5.0)

    assert outcomes == [Outcome.STALE]
    assert store.position() == 0
    assert store.cursors("w", 10) == []


def test_a_claim_must_have_seen_the_latest_beat(store: Store) -> None:
    seen = store.sources()[0]
    store.beat("me")

    late = store.claim(seen, "other", "monitors/o", 1)
    right = store.claim(store.sources()[0], "other", "monitors/o", 1_000)

    assert late is None
    assert right == 1_000
    assert store.sources()[0].holder == "other"


def test_leases_that_are_given_back_have_no_holder(store: Store) -> None:
    store.give_back("me")

    assert {source.holder for source in store.sources()} == {""}
    assert store.sources()[0].epoch == 1


def test_a_source_is_bound_only_under_its_lease(store: Store) -> None:
    assert store.bind(TRAINER, 1, "w")
    assert not store.bind(TRAINER, 0, "x")
    assert {source.key: source.source for source in store.sources()}[TRAINER] == "w"


def test_old_ended_cursors_are_left_out(store: Store) -> None:
    for number in range(4):
        done = arrival(metrics(JOB, 1), stream=f"runs/a/{number}/spool", is_last=number < 3)
        store.append([done], 5.0)

    cursors = store.cursors("w", 2)

    assert [cursor.stream for cursor in cursors] == [
        "runs/a/1/spool",
        "runs/a/2/spool",
        "runs/a/3/spool",
    ]


def test_the_end_of_a_stream_is_noted_without_entries(store: Store) -> None:
    store.append([arrival(metrics(JOB, 1))], 5.0)

    store.append([arrival(start=1, end=1, is_last=True)], 5.0)

    assert store.cursors("w", 10) == [Cursor("w", SPOOL, 1, ended=True)]


def test_an_end_waits_for_the_streams_that_it_names(store: Store) -> None:
    end = succeeded(JOB, ("w", SPOOL, 2))
    store.append([events(created(JOB), end, event(JOB), event(OTHER))], 5.0)

    before = payloads(stored(store))
    store.append([arrival(metrics(JOB, 1))], 5.0)
    half = payloads(stored(store))
    _, appended = store.append([arrival(metrics(JOB, 2), start=1)], 5.0)

    assert before == ["state_change"]
    assert payloads(stored(store, OTHER)) == ["event"]
    assert half == ["state_change", "train_metrics"]
    assert payloads([e.stored.entry for e in appended.entries]) == [
        "train_metrics",
        "state_change",
        "event",
    ]
    assert store.heads([JOB])[JOB].terminal_sequence == 4
    assert store.held() == []


def test_an_end_and_what_it_waits_for_may_come_at_once(store: Store) -> None:
    end = succeeded(JOB, ("w", SPOOL, 1))

    store.append([events(end), arrival(metrics(JOB, 1))], 5.0)

    assert payloads(stored(store)) == ["train_metrics", "state_change"]
    assert store.held() == []


def test_later_news_of_a_held_job_stays_behind(store: Store) -> None:
    store.append([events(succeeded(JOB, ("w", SPOOL, 1)))], 5.0)
    store.append([events(event(JOB), start=1)], 5.0)

    held = store.held()
    store.append([arrival(metrics(JOB, 1))], 5.0)

    assert [payloads([one.entry]) for one in held] == [["state_change"], ["event"]]
    assert payloads(stored(store)) == ["train_metrics", "state_change", "event"]


def test_past_the_bound_a_gap_goes_first(store: Store) -> None:
    store.append([events(created(JOB), succeeded(JOB, ("w", SPOOL, 9)))], 5.0)
    ids = {one.held_id for one in store.held()}

    untouched = store.release_held(SCHEDULER_KEY, 1, set(), 5.0)
    stale = store.release_held(SCHEDULER_KEY, 0, ids, 5.0)
    released = store.release_held(SCHEDULER_KEY, 1, ids, 5.0)

    assert untouched is not None
    assert untouched.entries == []
    assert stale is None
    assert released is not None
    assert len(released.entries) == 1
    assert payloads(stored(store)) == ["state_change", "gap", "state_change"]
    assert stored(store)[1].gap.reason == "SOURCE_LOST"
    assert [entry.sequence for entry in stored(store)] == [1, 0, 2]


def test_a_sources_own_gap_goes_before_its_next_entry(store: Store) -> None:
    gap = metrics(JOB, 1)
    gap.gap.reason = "QUOTA"
    store.append([arrival(metrics(JOB, 1), gap)], 5.0)

    store.append([arrival(metrics(JOB, 9), start=2)], 5.0)
    store.append([arrival(metrics(JOB, 10), start=3)], 5.0)

    assert payloads(stored(store)) == ["train_metrics", "gap", "train_metrics", "train_metrics"]


def test_an_entry_over_the_limit_leaves_a_gap(store: Store) -> None:
    large = line(JOB, "x" * 70_000)

    store.append([arrival(large, metrics(JOB, 1))], 5.0)

    assert payloads(stored(store)) == ["gap", "train_metrics"]
    assert stored(store)[0].gap.reason == "ENTRY_TOO_LARGE"


def test_pages_follow_each_other(store: Store) -> None:
    store.append([arrival(*(metrics(JOB, step) for step in range(7)))], 5.0)

    first = store.read_job(JOB, 0, 3)
    second = store.read_job(JOB, first.upto, 3)
    last = store.read_job(JOB, second.upto, 3)

    assert [e.sequence for p in (first, second, last) for e in p.entries] == list(range(1, 8))
    assert (first.upto, last.upto) == (3, 7)
    assert store.read_job("jobs/none", 0, 3).entries == []


def test_reading_by_kind_reads_past_the_others(store: Store) -> None:
    store.append([arrival(line(JOB, "a"), metrics(JOB, 1), line(JOB, "b"), event(JOB))], 5.0)

    page = store.read_job(JOB, 0, 10, (METRICS, LOG))

    assert [entry.sequence for entry in page.entries] == [1, 2, 3]
    assert page.upto == 4


def test_the_tail_starts_before_the_last_lines(store: Store) -> None:
    store.append([arrival(*(line(JOB, str(n)) for n in range(5)), metrics(JOB, 1))], 5.0)

    assert store.start_of_tail(JOB, LOG, 2) == 3
    assert store.start_of_tail(JOB, LOG, 50) == 0


def test_selecting_by_label_needs_all_labels(store: Store) -> None:
    labels = {JOB: {"team": "a", "kind": "x"}, OTHER: {"team": "a"}}
    store.append([events(created(JOB), created(OTHER), labels=labels)], 5.0)

    both = store.read_log(0, 10, {"team": "a"})
    one = store.read_log(0, 10, {"team": "a", "kind": "x"})
    none = store.read_log(0, 10, {"team": "b"})
    every = store.read_log(0, 10, {})

    assert [e.stored.job for e in both.entries] == [JOB, OTHER]
    assert [e.stored.job for e in one.entries] == [JOB]
    assert none.entries == []
    assert none.upto == 2
    assert len(every.entries) == 2
    assert every.entries[0].labels == {"team": "a", "kind": "x"}


def test_a_job_without_known_labels_comes_when_they_are_known(store: Store) -> None:
    store.append([arrival(metrics(JOB, 1), metrics(OTHER, 1), metrics(JOB, 2))], 5.0)
    before = store.read_log(0, 10, {})
    waiting = store.jobs_without_labels(10)

    store.set_labels(JOB, {"team": "a"})
    after = store.read_log(before.upto, 10, {})

    assert before.entries == []
    assert sorted(waiting) == [JOB, OTHER]
    assert [(e.stored.sequence, e.stored.position) for e in after.entries] == [(1, 4), (2, 5)]
    assert [e.sequence for e in store.read_job(JOB, 0, 10).entries] == [1, 2]
    assert store.jobs_without_labels(10) == [OTHER]


def test_changed_labels_move_nothing(store: Store) -> None:
    store.append([events(created(JOB), labels={JOB: {"team": "a"}})], 5.0)
    store.append([events(event(JOB, "LABELS_CHANGED"), start=1)], 5.0)
    stale = store.jobs_without_labels(10)

    store.set_labels(JOB, {"team": "b"})

    assert stale == [JOB]
    assert store.jobs_without_labels(10) == []
    assert store.read_log(0, 10, {"team": "a"}).entries == []
    assert [e.stored.position for e in store.read_log(0, 10, {"team": "b"}).entries] == [1, 2]


def test_retention_keeps_the_last_entries_of_each_job(store: Store) -> None:
    labels = {JOB: {"team": "a"}}
    store.append([events(*(event(JOB) for _ in range(5)), event(OTHER), labels=labels)], 5.0)

    removed = store.trim(Retention(entries_per_job_max=2), 6.0, 100)
    page = store.read_job(JOB, 0, 10)

    assert removed == 3
    assert page.head.first_sequence == 4
    assert [entry.sequence for entry in page.entries] == [4, 5]
    assert [(t.job, t.last_sequence) for t in store.trimmed_since(0, {"team": "a"})] == [(JOB, 3)]
    assert store.trimmed_since(3, {"team": "a"}) == []


def test_retention_removes_jobs_that_are_silent_for_long(store: Store) -> None:
    store.append([arrival(event(JOB))], 100.0)
    store.append([arrival(event(OTHER), start=1)], 200.0)

    removed = store.trim(Retention(idle_seconds_max=50.0), 210.0, 100)

    assert removed == 1
    assert store.heads([JOB])[JOB].first_sequence == 2
    assert store.heads([OTHER])[OTHER].first_sequence == 1
    _, appended = store.append([arrival(event(JOB), start=2)], 220.0)
    assert appended.entries[0].stored.sequence == 2


def test_concurrent_appends_leave_no_hole(store: Store) -> None:
    def write(number: int) -> None:
        for step in range(20):
            batch = arrival(metrics(JOB, step), start=step, stream=f"runs/a/{number}/spool")
            store.append([batch], 5.0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    entries = store.read_job(JOB, 0, 1000).entries
    assert [entry.sequence for entry in entries] == list(range(1, 81))
    positions = [entry.position for entry in entries]
    assert positions == sorted(positions)
    assert store.position() == 80


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_migrations_make_the_tables_of_the_code(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/monitor.db"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres_database")
    database = Database(url)

    migrate(database, MIGRATIONS, VERSION_TABLE)
    migrate(database, MIGRATIONS, VERSION_TABLE)

    assert drift(database, metadata, VERSION_TABLE) == []
    database.close()
