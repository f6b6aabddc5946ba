"""When to try again, and after how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tunewright.endpoints import MonitorBook
from tunewright.errors import (
    ApiError,
    Internal,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from tunewright.retry import Backoff, CallBudget, Reconnect, is_interruption
from tunewright.wire.reasons import Reason

EXACT = Backoff(first_seconds=1, factor=2, seconds_max=10, jitter=lambda: 1.0)


def test_waits_double_up_to_the_greatest() -> None:
    assert [EXACT.delay(failures) for failures in (1, 2, 3, 4, 5, 10**6)] == [1, 2, 4, 8, 10, 10]


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_half_of_a_wait_is_random(failures: int, chance: float) -> None:
    whole = EXACT.delay(failures)
    jittered = Backoff(1, 2, 10, jitter=lambda: chance).delay(failures)

    assert whole / 2 <= jittered <= whole


def test_a_repeatable_call_is_tried_until_its_deadline() -> None:
    budget = CallBudget(EXACT, repeatable=True, started=100, timeout=5)

    assert budget.delay_after(Unavailable("away"), 100) == 1
    assert budget.delay_after(Unavailable("away"), 101) == 2
    assert budget.delay_after(Unavailable("away"), 103) is None  # 4 s would be too long


def test_the_wait_that_the_service_asks_for_is_the_least() -> None:
    budget = CallBudget(EXACT, repeatable=False, started=0, timeout=100)

    assert budget.delay_after(Unavailable("busy", retry_delay_seconds=7), 0) == 7


def test_a_call_that_must_not_be_doubled_is_not_repeated_unasked() -> None:
    budget = CallBudget(EXACT, repeatable=False, started=0, timeout=100)

    assert budget.delay_after(Unavailable("reset"), 0) is None


def test_a_refusal_is_never_tried_again() -> None:
    budget = CallBudget(EXACT, repeatable=True, started=0, timeout=100)

    assert budget.delay_after(InvalidRequest("no"), 0) is None


def test_a_stream_is_opened_again_for_days() -> None:
    reconnect = Reconnect(EXACT)

    delays = [reconnect.delay_after(Unavailable("away"), now) for now in range(0, 10**6, 1000)]

    assert delays[-1] == 10


def test_a_stream_gives_up_when_it_was_told_to_and_counts_from_the_first_failure() -> None:
    reconnect = Reconnect(EXACT, give_up_seconds=60)

    assert reconnect.delay_after(Unavailable("away"), 0) == 1
    assert reconnect.delay_after(Unavailable("away"), 59) == 2
    assert reconnect.delay_after(Unavailable("away"), 60) is None
    reconnect.succeeded()
    assert reconnect.delay_after(Unavailable("away"), 61) == 1


def test_what_interrupts_a_stream_and_what_ends_it() -> None:
    slow = ResourceExhausted("slow", reason=Reason.SLOW_SUBSCRIBER)

    assert is_interruption(slow)
    assert is_interruption(Internal("RST_STREAM"))
    assert is_interruption(ApiError("cancelled by the server", code="CANCELLED"))
    assert not is_interruption(Internal("a bug", reason=Reason.INTERNAL))
    assert not is_interruption(ResourceExhausted("full", reason=Reason.STORAGE_FULL))
    assert not is_interruption(NotFound("gone", reason=Reason.JOB_NOT_FOUND))


def test_another_monitor_is_preferred_to_the_one_that_went_away() -> None:
    book = MonitorBook()
    assert book.choose(["a", "b"]) == "a"

    book.went_away("a")

    assert book.current is None
    assert book.choose(["a", "b"]) == "b"


def test_the_one_monitor_there_is_is_taken_again() -> None:
    book = MonitorBook()
    book.choose(["a"])
    book.went_away("a")

    assert book.choose(["a"]) == "a"


def test_a_late_word_about_the_former_monitor_changes_nothing() -> None:
    book = MonitorBook()
    book.choose(["a", "b"])
    book.went_away("a")
    book.choose(["a", "b"])

    book.went_away("a")

    assert book.current == "b"
