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


class NotRegistered(Refusal):
    """The scheduler has not answered the registration yet: nothing may be spawned."""

    reason = Reason.NOT_REGISTERED


class RunNotFound(Refusal):
    """No such run in the workspace."""

    reason = Reason.RUN_NOT_FOUND


class Draining(Refusal):
    """The service is on its way out."""

    reason = Reason.DRAINING
