"""One subscriber's steps from the store to live and back, without a server."""

from __future__ import annotations

import pytest

from monitor_svc.domain.entries import kind_of
from monitor_svc.domain.records import Labels, LogEntry, StoredEntry
from monitor_svc.domain.refusals import SlowSubscriber
from monitor_svc.domain.selection import JobSelection, LabelSelection, ResumePoint
from monitor_svc.storage.memory import MemoryStore
from monitor_svc.subscription import Subscription
from tests.unit.monitor.made_entries import event, line

JOB = "jobs/a"


def published(sequence: int, labels: Labels | None = None) -> LogEntry:
    entry = event(JOB)
    entry.sequence = sequence
    return LogEntry(StoredEntry(JOB, sequence, sequence, kind_of(entry), 10, entry), labels)


def live(limit: int = 16) -> Subscription:
    subscription = Subscription(JobSelection({JOB: 0}), (), limit)
    assert subscription.stored.read(MemoryStore()) == []
    assert subscription.has_read_everything()
    return subscription


def taken(subscription: Subscription) -> list[int]:
    delivery = subscription.take(100)
    return [] if delivery is None else [entry.sequence for entry in delivery.entries]


async def test_what_is_published_while_the_store_is_read_sends_it_back_there() -> None:
    subscription = Subscription(JobSelection({JOB: 0}), (), 16)

    subscription.stored.read(MemoryStore())
    subscription.offer([published(1)])

    assert not subscription.has_read_everything()
    assert not subscription.is_live
    assert subscription.has_read_everything()


async def test_a_live_one_takes_each_entry_once() -> None:
    subscription = live()

    subscription.offer([published(1), published(2)])
    subscription.offer([published(2), published(3)])

    assert taken(subscription) == [1, 2, 3]


async def test_a_live_one_that_was_not_offered_everything_reads_the_store() -> None:
    subscription = live()

    subscription.offer([published(1)])
    subscription.offer([published(3)])

    assert not subscription.is_live
    assert taken(subscription) == [1]


async def test_a_full_buffer_of_what_cannot_be_left_out_ends_it() -> None:
    subscription = live(limit=4)
    subscription.offer([published(1), published(2)])
    assert taken(subscription) == [1, 2]

    subscription.offer([published(number) for number in range(3, 8)])

    with pytest.raises(SlowSubscriber) as caught:
        subscription.raise_failure()
    assert caught.value.metadata["last_sequence"] == "2"
    assert taken(subscription) == []


async def test_the_token_says_what_was_taken_out_not_what_waits() -> None:
    subscription = Subscription(LabelSelection({}, 0), (), 16)
    subscription.has_read_everything()
    subscription.offer([published(number, {}) for number in range(1, 5)])

    delivery = subscription.take(2)

    assert delivery is not None
    assert ResumePoint.decode(delivery.resume_token).position == 2
    assert [entry.sequence for entry in delivery.entries] == [1, 2]
    assert taken(subscription) == [3, 4]


async def test_a_message_ends_before_it_is_too_large() -> None:
    subscription = live()
    entry = line(JOB, "x")
    large = [
        LogEntry(StoredEntry(JOB, number, number, kind_of(entry), 700_000, entry), None)
        for number in (1, 2, 3)
    ]
    subscription.offer(large)

    first = subscription.take(100)

    assert first is not None
    assert len(first.entries) == 2
