"""No entry twice, none left out, wherever a stream breaks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tunewright.errors import ApiError, NotFound, Unavailable
from tunewright.retry import Backoff, Reconnect
from tunewright.subscription import EntrySubscription, LogSubscription, StreamState
from tunewright.v1 import feed_pb2, job_pb2, monitor_service_pb2

JOB = "jobs/a"
LENGTH = 12


def entry(sequence: int, job: str = JOB) -> feed_pb2.Entry:
    if sequence == LENGTH:
        change = feed_pb2.StateChange(to=job_pb2.JOB_STATE_SUCCEEDED)
        return feed_pb2.Entry(job=job, sequence=sequence, state_change=change)
    return feed_pb2.Entry(
        job=job, sequence=sequence, train_metrics=feed_pb2.TrainMetrics(step=sequence)
    )


def answer(*entries: feed_pb2.Entry, token: str = "") -> monitor_service_pb2.SubscribeResponse:
    return monitor_service_pb2.SubscribeResponse(entries=entries, resume_token=token)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, LENGTH)), max_size=20))
def test_however_a_stream_breaks_the_entries_are_whole(
    breaks: list[tuple[int, int]],
) -> None:
    # Each break: how many entries before the asked one are sent again, how many get through.
    subscription = EntrySubscription(["a"])
    seen: list[int] = []

    for resent, length in [*breaks, (0, LENGTH)]:
        if subscription.complete:
            break
        first = max(subscription.request().after_sequence + 1 - resent, 1)
        sent = [entry(number) for number in range(first, min(first + length, LENGTH + 1))]
        seen += [one.sequence for one in subscription.accept(answer(*sent))]

    assert seen == list(range(1, len(seen) + 1))
    assert not subscription.complete or seen[-1] == LENGTH


def test_one_job_goes_on_by_sequence_and_several_by_token() -> None:
    one, several = EntrySubscription(["a"]), EntrySubscription(["a", "b"])

    for subscription in (one, several):
        subscription.accept(answer(entry(3), token="t"))

    assert (one.request().after_sequence, one.request().resume_token) == (3, "")
    assert (several.request().after_sequence, several.request().resume_token) == (0, "t")


def test_from_now_is_asked_only_until_something_has_come() -> None:
    subscription = EntrySubscription(["a"], from_now=True)
    assert subscription.request().start == monitor_service_pb2.START_POSITION_NOW

    subscription.accept(answer(entry(7)))

    assert subscription.request().start == monitor_service_pb2.START_POSITION_UNSPECIFIED


def test_several_jobs_are_complete_when_the_last_has_ended() -> None:
    subscription = EntrySubscription(["a", "b"])

    subscription.accept(answer(entry(LENGTH, "jobs/a")))
    assert not subscription.complete
    subscription.accept(answer(entry(LENGTH, "jobs/b")))

    assert subscription.complete


def test_keepalives_are_not_handed_out() -> None:
    subscription = EntrySubscription(["a"])

    assert subscription.accept(answer(feed_pb2.Entry(keepalive=feed_pb2.Keepalive()))) == []


def test_a_tail_of_a_log_is_asked_once_and_then_what_follows() -> None:
    subscription = LogSubscription("a", follow=True, tail=5)
    line = feed_pb2.Entry(job=JOB, sequence=9, log_line=feed_pb2.LogLine(text="x"))

    before = subscription.request()
    subscription.accept(monitor_service_pb2.StreamLogsResponse(entries=[line, line]))
    after = subscription.request()

    assert (before.tail_lines, before.after_sequence) == (5, 0)
    assert (after.tail_lines, after.after_sequence) == (0, 9)


def test_only_named_jobs_can_be_waited_for() -> None:
    assert EntrySubscription(["a"], wait_for_job=True).request().wait_for_job
    assert not EntrySubscription(["a"]).request().wait_for_job
    assert not EntrySubscription(labels={"a": "b"}, wait_for_job=True).request().wait_for_job
    assert LogSubscription("a", follow=True, wait_for_job=True).request().wait_for_job


def state_of(*, until_terminal: bool) -> StreamState[feed_pb2.Entry]:
    subscription = EntrySubscription(["a"], until_terminal=until_terminal)
    backoff = Backoff(first_seconds=1, jitter=lambda: 1.0)
    return StreamState(subscription, Reconnect(backoff))


def test_a_stream_closed_with_ok_has_ended_where_an_end_was_asked_for() -> None:
    state = state_of(until_terminal=True)

    assert state.broke(None, 0) is None
    assert state.finished


def test_a_stream_closed_with_ok_is_opened_again_where_it_should_go_on() -> None:
    state = state_of(until_terminal=False)

    assert state.broke(None, 0) == 1
    assert not state.finished


def test_an_interruption_waits_and_a_refusal_is_raised() -> None:
    state = state_of(until_terminal=True)

    assert state.broke(Unavailable("away"), 0) == 1
    with pytest.raises(NotFound):
        state.broke(NotFound("no such job", reason="JOB_NOT_FOUND"), 0)


def test_what_waits_is_taken_before_the_stream_has_finished() -> None:
    state = state_of(until_terminal=True)

    state.received(answer(entry(LENGTH)))

    assert not state.finished
    state.pending.popleft()
    assert state.finished


def test_an_error_without_reason_reads_as_its_message() -> None:
    assert str(ApiError("gone", code="UNKNOWN")) == "gone"
