"""The pure rules of the fan-out: coalescing, thinning, tokens, leases, holding, backing off."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_svc.domain.coalescing import Item, coalesce, items_of
from monitor_svc.domain.entries import kind_of
from monitor_svc.domain.leases import LeaseWatch
from monitor_svc.domain.records import Held, Source, StoredEntry, Wait
from monitor_svc.domain.selection import ResumePoint, matches
from monitor_svc.domain.thinning import thin
from monitor_svc.ingest.backoff import Backoff
from monitor_svc.ingest.holding import HoldWatch, lost_sources
from tests.unit.monitor.made_entries import line, metrics, succeeded, system_sample


def buffered(kinds: str, job: str = "jobs/a") -> list[Item]:
    """One item for each letter: m metrics, s system sample, l line."""
    made = {"m": metrics(job, 1), "s": system_sample(job), "l": line(job, "x")}
    items = []
    for number, letter in enumerate(kinds, 1):
        entry = type(made[letter]).FromString(made[letter].SerializeToString())
        entry.sequence = number
        stored = StoredEntry(job, number, number, kind_of(entry), 10, entry)
        items += items_of(stored)
    return items


def told(items: list[Item]) -> list[int]:
    numbers: list[int] = []
    for item in items:
        gap = item.entry.gap
        has_gap = item.entry.HasField("gap")
        numbers += range(gap.first_sequence, gap.last_sequence + 1) if has_gap else [item.sequence]
    return numbers


@given(st.text(alphabet="msl", max_size=60), st.integers(1, 4))
def test_coalescing_again_and_again_tells_of_every_entry_once(kinds: str, times: int) -> None:
    items = buffered(kinds)

    for _ in range(times):
        items = coalesce(items)

    assert told(items) == list(range(1, len(kinds) + 1))
    assert sum(1 for i in items if i.entry.HasField("log_line")) == kinds.count("l")


def test_a_run_of_samples_shrinks_to_a_gap_and_its_newest() -> None:
    items = coalesce(buffered("lmsmmlmm"))

    assert [item.sequence for item in items] == [1, 4, 5, 6, 7, 8]
    assert items[1].entry.gap.first_sequence == 2
    assert items[1].position == 2


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300),
    st.integers(4, 60),
)
def test_thinning_keeps_first_last_least_and_greatest(values: list[float], most: int) -> None:
    points = list(enumerate(values))

    thinned = thin(points, most)

    assert len(thinned) <= most
    assert {points[0], points[-1]} <= set(thinned)
    assert {min(values), max(values)} <= {value for _, value in thinned}
    assert thinned == sorted(thinned)


def test_thinning_is_not_thrown_by_nan() -> None:
    points = [(0, 1.0), (1, math.nan), (2, -5.0), (3, math.inf), (4, 9.0), (5, math.nan)]

    thinned = thin(points, 4)

    assert [step for step, _ in thinned] == [0, 2, 4, 5]


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 2**53)))
def test_a_token_of_sequences_comes_back(sequences: dict[str, int]) -> None:
    assert ResumePoint.decode(ResumePoint(sequences).encode()).sequences == sequences


@given(st.text())
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(ValueError, match="not a resume token"):
        ResumePoint.decode("x" + text)


def test_a_selector_matches_only_known_labels() -> None:
    assert matches({}, {"a": "b"})
    assert matches({"a": "b"}, {"a": "b", "c": "d"})
    assert not matches({"a": "b"}, {"a": "c"})
    assert not matches({}, None)


def lease(holder: str = "other", name: str = "monitors/o", epoch: int = 1, beat: int = 0) -> Source:
    return Source("scheduler", "127.0.0.1:1", "db", holder, name, epoch, beat)


def test_a_lease_is_free_once_its_beat_stands_still() -> None:
    watch = LeaseWatch("me", "monitors/m", 10.0)

    seen = [
        watch.claimable([lease(beat=1)], 0.0),
        watch.claimable([lease(beat=2)], 9.0),
        watch.claimable([lease(beat=2)], 18.9),
        watch.claimable([lease(beat=2)], 19.0),
    ]

    assert [bool(claimable) for claimable in seen] == [False, False, False, True]


def test_a_free_lease_is_claimed_at_once_and_an_own_one_never() -> None:
    watch = LeaseWatch("me", "monitors/m", 10.0)

    assert watch.claimable([lease(holder="")], 0.0)
    assert not watch.claimable([lease(holder="me")], 100.0)
    assert not watch.claimable([lease(holder="me")], 200.0)


def test_a_successor_of_the_same_name_takes_over_once() -> None:
    watch = LeaseWatch("me", "monitors/m", 10.0)
    predecessor = lease(holder="before", name="monitors/m")

    first = watch.claimable([predecessor], 0.0)
    again = watch.claimable([lease(holder="twin", name="monitors/m", epoch=3)], 1.0)

    assert first
    assert not again


def test_waiting_ends_at_the_bound_or_with_its_source() -> None:
    held = [
        Held(1, "jobs/a", succeeded("jobs/a"), (Wait("w", "s", 1),)),
        Held(2, "jobs/b", succeeded("jobs/b"), (Wait("lost", "s", 1),)),
        Held(3, "jobs/b", succeeded("jobs/b")),
    ]
    watch = HoldWatch(600.0)

    at_once = watch.expired(held, {"lost"}, 5.0)
    before = watch.expired(held, set(), 604.0)
    after = watch.expired(held, set(), 605.0)

    assert (at_once, before, after) == ({2}, set(), {1, 2, 3})


def test_a_source_that_is_still_read_is_not_lost() -> None:
    uuids = {"trainers/a": "wa", "trainers/b": "wb"}

    lost = lost_sources(uuids, {"trainers/a", "trainers/b", "trainers/c"}, {"trainers/b"})

    assert lost == {"wa"}


def test_backing_off_grows_to_its_bound_and_starts_anew() -> None:
    backoff = Backoff(1.0, 8.0, random.Random(1))

    waits = [backoff.next_seconds() for _ in range(2000)]
    backoff.reset()

    assert 0.5 <= waits[0] <= 1.0
    assert all(4.0 <= wait <= 8.0 for wait in waits[3:])
    assert backoff.next_seconds() <= 1.0
