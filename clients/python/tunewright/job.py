"""A job as both clients show it: the record's values, read only.

Pure: no call is made here. `tunewright.client.Job` and `tunewright.aio.AsyncJob` add the verbs.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.errors import JobCancelled, JobFailed, WaitTimeout
from tunewright.fields import enum_short_name
from tunewright.retry import Backoff
from tunewright.subscription import TERMINAL_STATES
from tunewright.v1 import job_pb2, spec_pb2
from tunewright.wire import names

# How often wait() asks: often at first, then every two seconds.
POLLING = Backoff(first_seconds=0.2, factor=1.5, seconds_max=2.0)


class JobRecord:
    """One job's record, as of the last answer. `proto` is all of it."""

    def __init__(self, proto: job_pb2.Job) -> None:
        self.proto = proto

    @property
    def name(self) -> str:
        """ "jobs/{job}"; empty in the answer to validate_only."""
        return self.proto.name

    @property
    def id(self) -> str:
        """The last part of the name."""
        return names.job_id(self.proto.name) if self.proto.name else ""

    @property
    def display_name(self) -> str:
        """For people."""
        return self.proto.display_name

    @property
    def state(self) -> str:
        """ "QUEUED", "RUNNING", "SUCCEEDED", ...; all are in docs/job-states.md."""
        return enum_short_name(job_pb2.JobState.DESCRIPTOR, self.proto.state)

    @property
    def is_terminal(self) -> bool:
        """SUCCEEDED, FAILED or CANCELLED: it never changes any more."""
        return self.proto.state in TERMINAL_STATES

    @property
    def succeeded(self) -> bool:
        """Its result is published."""
        return self.proto.state == job_pb2.JOB_STATE_SUCCEEDED

    @property
    def recipe(self) -> str:
        """ "recipes/{recipe}@{version}" that it was made from; empty if it was from none."""
        return self.proto.recipe

    @property
    def pending_reason(self) -> str:
        """Why it waits, in words a person can act on; empty if it does not."""
        return self.proto.pending_reason

    @property
    def attempt(self) -> int:
        """The latest attempt; 0 before the first."""
        return self.proto.attempt

    @property
    def labels(self) -> Mapping[str, str]:
        """A copy of its labels."""
        return dict(self.proto.labels)

    @property
    def priority(self) -> int:
        """The higher goes first."""
        return self.proto.priority

    @property
    def spec(self) -> spec_pb2.JobSpec:
        """What it does, with every default filled in."""
        return self.proto.spec

    @property
    def progress(self) -> job_pb2.Progress | None:
        """The latest step, losses and speed; None before there are any."""
        return self.proto.progress if self.proto.HasField("progress") else None

    @property
    def failure(self) -> job_pb2.Failure | None:
        """Why it failed: cause, message, hint; None if it did not."""
        return self.proto.failure if self.proto.HasField("failure") else None

    @property
    def output(self) -> job_pb2.JobOutput | None:
        """Where the result is; None unless it succeeded."""
        return self.proto.output if self.proto.HasField("output") else None

    @property
    def plan(self) -> job_pb2.JobPlan | None:
        """What would be done; only in the answer to validate_only."""
        return self.proto.plan if self.proto.HasField("plan") else None

    def raise_for_state(self) -> None:
        """Raises JobFailed or JobCancelled if it ended so."""
        if self.proto.state == job_pb2.JOB_STATE_FAILED:
            raise JobFailed(f"{self.name} failed: {failure_text(self.proto.failure)}", self.proto)
        if self.proto.state == job_pb2.JOB_STATE_CANCELLED:
            raise JobCancelled(f"{self.name} was cancelled", self.proto)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name or 'plan'} {self.state}>"


def failure_text(failure: job_pb2.Failure) -> str:
    """A failure in one line: its cause, what happened, what to do."""
    cause = enum_short_name(job_pb2.FailureCause.DESCRIPTOR, failure.cause)
    told = f"{cause}: {failure.message}" if failure.message else cause
    return f"{told} ({failure.hint})" if failure.hint else told


def wait_timeout(job: JobRecord, timeout: float | None) -> WaitTimeout:
    """What wait() raises when its time is over."""
    return WaitTimeout(f"{job.name} is still {job.state} after {timeout:g} s; it goes on")
