"""What the monitor refuses with."""

from __future__ import annotations

from tunewright.wire.reasons import Reason

from svckit.refusal import Refusal


class JobNotFound(Refusal):
    """The scheduler has no such job, and the monitor has no entries of it."""

    reason = Reason.JOB_NOT_FOUND

    def __init__(self, job: str) -> None:
        super().__init__(f"job not found: {job}", metadata={"job": job})


class SchedulerUnavailable(Refusal):
    """The monitor has no entries of the job, and cannot ask whether it exists."""

    reason = Reason.SCHEDULER_UNAVAILABLE

    def __init__(self, job: str) -> None:
        super().__init__(
            f"no entries of {job} yet, and the scheduler does not answer whether it exists",
            metadata={"job": job},
            retry_delay_seconds=1.0,
        )


class SlowSubscriber(Refusal):
    """The subscriber did not keep up; it may come back where it stopped."""

    reason = Reason.SLOW_SUBSCRIBER

    def __init__(self, last_sequence: int, resume_token: str) -> None:
        metadata = {"last_sequence": str(last_sequence)}
        # ErrorInfo cuts longer values, and half a token is none.
        if len(resume_token) <= 256:
            metadata["resume_token"] = resume_token
        super().__init__("the subscriber does not keep up", metadata=metadata)


class Draining(Refusal):
    """This monitor is going down; another one, or its successor, goes on."""

    reason = Reason.DRAINING

    def __init__(self) -> None:
        super().__init__("the monitor is going down", retry_delay_seconds=0.5)
