"""Facts that the scheduler refuses with.

One interceptor turns them into a status; nothing here knows of gRPC.

    Refusal
    ├── JobNotFound · TrainerNotFound · RecipeNotFound
    ├── ForbiddenMove · NotEnded   the state does not allow it
    ├── RunNotFound             a report for a run that an older database does not know
    ├── StaleReader             a monitor that another one has taken over from
    ├── StaleAttempt            a report for an attempt that is not current, or from elsewhere
    ├── StaleIncarnation        a registration of an earlier start than the one that is known
    ├── NotRegistered           a trainer's start that the scheduler does not know
    ├── NotLeader               another scheduler has taken the lead
    ├── OutputDirTaken · JobIdTaken · RequestIdReused · RecipeExists
    ├── RecipeReadOnly          it is shipped
    ├── RecipeChanged           what was edited is not the latest any more
    ├── QueueFull
    └── TrainerUnavailable      none can check data, or the one asked cannot be reached
        TooManyChecks · CheckTimedOut · CheckCrashed   a trainer's own refusals, passed on
"""

from __future__ import annotations

from tunewright.wire.reasons import Reason

from scheduler_svc.domain.job import JobId, TrainerId
from scheduler_svc.domain.recipe import RecipeRef
from scheduler_svc.domain.states import JobState
from svckit.refusal import Refusal


def short_name(state: JobState) -> str:
    """A state as people say it ("RUNNING")."""
    return state.value.removeprefix("JOB_STATE_")


class JobNotFound(Refusal):
    """There is no such job."""

    reason = Reason.JOB_NOT_FOUND

    def __init__(self, job_id: JobId) -> None:
        super().__init__(f"job not found: jobs/{job_id}", metadata={"job": f"jobs/{job_id}"})


class TrainerNotFound(Refusal):
    """There is no such trainer."""

    reason = Reason.TRAINER_NOT_FOUND

    def __init__(self, trainer_id: TrainerId) -> None:
        name = f"trainers/{trainer_id}"
        super().__init__(f"trainer not found: {name}", metadata={"trainer": name})


class RecipeNotFound(Refusal):
    """There is no such recipe, or not that version of it."""

    reason = Reason.RECIPE_NOT_FOUND

    def __init__(self, ref: RecipeRef) -> None:
        super().__init__(f"recipe not found: {ref.name}", metadata={"recipe": ref.name})


class RecipeExists(Refusal):
    """There is a recipe of that name."""

    reason = Reason.RECIPE_EXISTS

    def __init__(self, ref: RecipeRef) -> None:
        super().__init__(f"{ref.name} exists already", metadata={"recipe": ref.name})


class RecipeReadOnly(Refusal):
    """The recipe comes with Tunewright."""

    reason = Reason.RECIPE_READ_ONLY

    def __init__(self, ref: RecipeRef, verb: str) -> None:
        super().__init__(
            f"{ref.name} comes with Tunewright and cannot be {verb}; create one under another name",
            metadata={"recipe": ref.name},
        )


class RecipeChanged(Refusal):
    """Somebody has stored a newer version than the one that was edited."""

    reason = Reason.RECIPE_CHANGED

    def __init__(self, edited: RecipeRef, latest: int) -> None:
        super().__init__(
            f"{edited.name} is not the latest any more, version {latest} is; look at that first",
            metadata={"recipe": edited.name, "version": str(latest)},
        )


class ForbiddenMove(Refusal):
    """The job's state does not allow what was asked."""

    reason = Reason.FORBIDDEN_MOVE

    def __init__(self, job_id: JobId, state: JobState, target: JobState, why: str = "") -> None:
        message = f"jobs/{job_id} is {short_name(state)}; it cannot become {short_name(target)}"
        super().__init__(
            f"{message}: {why}" if why else message,
            metadata={"job": f"jobs/{job_id}", "state": state.value, "target": target.value},
        )
        self.state = state
        self.target = target


class NotEnded(Refusal):
    """What was asked is possible only with a job that has ended."""

    reason = Reason.FORBIDDEN_MOVE

    def __init__(self, job_id: JobId, state: JobState, verb: str) -> None:
        super().__init__(
            f"jobs/{job_id} is {short_name(state)}; only a job that is SUCCEEDED, FAILED or "
            f"CANCELLED can be {verb}",
            metadata={"job": f"jobs/{job_id}", "state": state.value},
        )


class StaleAttempt(Refusal):
    """The attempt is not the job's current one, or is not bound to who reports."""

    reason = Reason.STALE_ATTEMPT

    def __init__(self, job_id: JobId, attempt: int) -> None:
        super().__init__(
            f"attempt {attempt} of jobs/{job_id} is not current: end it, publish nothing",
            metadata={"job": f"jobs/{job_id}", "attempt": str(attempt)},
        )


class StaleIncarnation(Refusal):
    """A later start of the trainer's service has registered."""

    reason = Reason.STALE_INCARNATION

    def __init__(self, trainer_id: TrainerId, incarnation: str, newest: str) -> None:
        super().__init__(
            f"trainers/{trainer_id} has registered a later start than {incarnation}",
            metadata={"incarnation": incarnation, "newest": newest},
        )


class NotRegistered(Refusal):
    """The trainer has to register first."""

    reason = Reason.NOT_REGISTERED

    def __init__(self, trainer_id: TrainerId) -> None:
        name = f"trainers/{trainer_id}"
        super().__init__(f"this start of {name} is not registered", metadata={"trainer": name})


class NotLeader(Refusal):
    """Another scheduler has taken the lead since."""

    reason = Reason.NOT_LEADER

    def __init__(self, generation: int, current: int) -> None:
        super().__init__(
            f"generation {generation} does not lead any more; {current} does",
            metadata={"generation": str(generation), "current": str(current)},
        )


class OutputDirTaken(Refusal):
    """Another job's result stands, or will stand, in, above or below that folder."""

    reason = Reason.OUTPUT_DIR_TAKEN

    def __init__(self, output_dir: str, taken: str, job_id: JobId) -> None:
        what = f"output_dir {output_dir!r}"
        if taken != output_dir:
            what += f" overlaps with {taken!r}, which"
        super().__init__(
            f"{what} is taken by jobs/{job_id}",
            metadata={"job": f"jobs/{job_id}", "output_dir": taken},
        )


class JobIdTaken(Refusal):
    """There is, or was, a job of that name."""

    reason = Reason.JOB_ID_TAKEN

    def __init__(self, job_id: JobId) -> None:
        super().__init__(f"jobs/{job_id} exists already", metadata={"job": f"jobs/{job_id}"})


class RequestIdReused(Refusal):
    """The request_id came with another request before."""

    reason = Reason.REQUEST_ID_REUSED

    def __init__(self, request_id: str, job_id: JobId) -> None:
        super().__init__(
            f"request_id {request_id!r} made jobs/{job_id} with another request",
            metadata={"request_id": request_id, "job": f"jobs/{job_id}"},
        )


class QueueFull(Refusal):
    """As many jobs wait as may wait."""

    reason = Reason.QUEUE_FULL

    def __init__(self, jobs_max: int) -> None:
        super().__init__(
            f"the queue is full: {jobs_max} jobs wait",
            metadata={"jobs_max": str(jobs_max)},
            retry_delay_seconds=30.0,
        )


class RunNotFound(Refusal):
    """The database does not know the run; it may be older than the run. Not a reason to end it."""

    reason = Reason.RUN_NOT_FOUND

    def __init__(self, job_id: JobId, attempt: int) -> None:
        super().__init__(
            f"attempt {attempt} of jobs/{job_id} is not known here; keep it",
            metadata={"job": f"jobs/{job_id}", "attempt": str(attempt)},
        )


class StaleReader(Refusal):
    """Another monitor reads the feed under a newer lease."""

    reason = Reason.STALE_READER

    def __init__(self, reader: str, epoch: int, newest: int) -> None:
        super().__init__(
            f"{reader} reads with epoch {epoch}, but {newest} was seen",
            metadata={"reader": reader, "epoch": str(epoch), "newest": str(newest)},
        )


class TrainerUnavailable(Refusal):
    """No trainer can do what was asked now, or the one that was asked cannot be reached."""

    reason = Reason.TRAINER_UNAVAILABLE


class TooManyChecks(Refusal):
    """The trainer runs as many data checks as it may."""

    reason = Reason.TOO_MANY_CHECKS


class CheckTimedOut(Refusal):
    """The data check took longer than the trainer allows."""

    reason = Reason.CHECK_TIMED_OUT


class CheckCrashed(Refusal):
    """The data check's process ended without a verdict."""

    reason = Reason.CHECK_CRASHED
