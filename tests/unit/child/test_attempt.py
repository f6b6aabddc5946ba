"""What ended an attempt, where one exception took the place of another."""

from trainer_svc.child.attempt import stop_behind
from trainer_svc.child.stopping import StopMode, StopNow


def error_of_a_pool_that_is_stopped() -> Exception:
    """As a library's pool raises it while a stop request unwinds through its clean-up."""
    try:
        try:
            raise StopNow(StopMode.PAUSE)
        finally:
            raise TimeoutError
    except TimeoutError as error:
        return error


def test_a_stop_is_found_behind_what_took_its_place() -> None:
    try:
        raise ValueError("what the library makes of it") from error_of_a_pool_that_is_stopped()
    except ValueError as error:
        found = stop_behind(error)

    assert found is not None
    assert found.mode is StopMode.PAUSE


def test_a_failure_of_its_own_is_no_stop() -> None:
    looped = ValueError("a")
    looped.__context__ = RuntimeError("b")
    looped.__context__.__context__ = looped

    assert stop_behind(looped) is None
