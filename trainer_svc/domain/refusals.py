"""What a trainer refuses, each with its reason on the wire."""

from __future__ import annotations

from tunewright.wire.reasons import Reason

from svckit.refusal import Refusal


class StaleAttempt(Refusal):
    """The attempt is not the latest that this trainer, or the scheduler, knows."""

    reason = Reason.STALE_ATTEMPT


class StaleGeneration(Refusal):
    """The caller is a scheduler that another one has replaced, or has another database."""

    reason = Reason.STALE_GENERATION


class StaleIncarnation(Refusal):
    """The assignment was made to an earlier start of this trainer."""

    reason = Reason.STALE_INCARNATION


class StaleReader(Refusal):
    """Another monitor has taken over this source."""

    reason = Reason.STALE_READER


class TrainerFull(Refusal):
    """No slot, no such GPU, or one that somebody else uses."""

    reason = Reason.TRAINER_FULL


class TooManyChecks(Refusal):
    """As many data checks run as may run at once."""

    reason = Reason.TOO_MANY_CHECKS

    def __init__(self, trainer: str, checks_max: int) -> None:
        super().__init__(
            f"{trainer} runs {checks_max} data checks already, and no more at once",
            metadata={"trainer": trainer, "checks_max": str(checks_max)},
            retry_delay_seconds=5.0,
        )


class CheckTimedOut(Refusal):
    """A data check took longer than it may."""

    reason = Reason.CHECK_TIMED_OUT

    def __init__(self, trainer: str, seconds_max: float) -> None:
        super().__init__(
            f"the data check on {trainer} was ended after {seconds_max:g} s, the limit there: "
            "check fewer rows (#N behind a source takes the first N), or raise "
            "data_check_seconds_max",
            metadata={"trainer": trainer, "seconds_max": f"{seconds_max:g}"},
        )


class CheckCrashed(Refusal):
    """A data check's process ended without a verdict."""

    reason = Reason.CHECK_CRASHED

    def __init__(self, trainer: str, why: str) -> None:
        super().__init__(
            f"the data check on {trainer} gave no verdict: {why}", metadata={"trainer": trainer}
        )


class NotRegistered(Refusal):
    """The scheduler has not answered the registration yet: nothing may be spawned."""

    reason = Reason.NOT_REGISTERED


class RunNotFound(Refusal):
    """No such run in the workspace."""

    reason = Reason.RUN_NOT_FOUND


class Draining(Refusal):
    """The service is on its way out."""

    reason = Reason.DRAINING
