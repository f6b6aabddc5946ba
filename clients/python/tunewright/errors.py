"""Every error the SDK raises, and the one place where a status becomes an exception.

    TunewrightError
    ├── ConfigurationError         an address, token or certificate that cannot be used
    ├── WaitTimeout                wait() ran out of time; the job goes on
    ├── JobEnded                   wait(raise_on_failure=True): it did not succeed
    │   ├── JobFailed
    │   └── JobCancelled
    └── ApiError                   a service refused a call, or could not be reached
        ├── InvalidRequest         `violations` names every bad field
        ├── Unauthenticated
        ├── PermissionDenied
        ├── NotFound
        │   └── JobNotFound
        ├── AlreadyExists
        ├── FailedPrecondition
        │   └── ForbiddenMove      the job's state does not allow it
        ├── Aborted                somebody else was first; read again, and decide anew
        ├── ResourceExhausted
        ├── Unavailable            worth trying again
        ├── DeadlineExceeded
        ├── Unimplemented          the service is older than this client
        └── Internal

Users never catch `grpc.RpcError`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import grpc

from tunewright.wire.reasons import CODES, Reason, Violation
from tunewright.wire.status import RichError, rich_error

if TYPE_CHECKING:
    from tunewright.v1 import job_pb2

__all__ = [
    "Aborted",
    "AlreadyExists",
    "ApiError",
    "ConfigurationError",
    "DeadlineExceeded",
    "FailedPrecondition",
    "ForbiddenMove",
    "Internal",
    "InvalidRequest",
    "JobCancelled",
    "JobEnded",
    "JobFailed",
    "JobNotFound",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "TunewrightError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
    "WaitTimeout",
    "api_error",
    "error_from_rpc",
]


class TunewrightError(Exception):
    """Base of everything the SDK raises on purpose."""


class ConfigurationError(TunewrightError):
    """An address, token or certificate file that cannot be used."""


class WaitTimeout(TunewrightError, TimeoutError):
    """`wait(timeout=...)` ran out of time. The job itself goes on."""


class JobEnded(TunewrightError):
    """A job ended other than SUCCEEDED. `job` is its last record."""

    def __init__(self, message: str, job: job_pb2.Job) -> None:
        super().__init__(message, job)
        self.message = message
        self.job = job

    def __str__(self) -> str:
        return self.message


class JobFailed(JobEnded):
    """The job is FAILED; `job.failure` has cause, message and hint."""


class JobCancelled(JobEnded):
    """The job is CANCELLED."""


class ApiError(TunewrightError):
    """A service refused a call, or could not be reached.

    Attributes:
        reason: stable word ("JOB_NOT_FOUND"); "" if the other end named none.
        message: for a person.
        code: name of the gRPC status code ("NOT_FOUND").
        metadata: details by name.
        violations: each bad field and what is wrong with it.
        retry_delay_seconds: how long the service asks to wait; None if it did not say.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: str = "UNKNOWN",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_delay_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = code
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_delay_seconds = retry_delay_seconds

    def __str__(self) -> str:
        told = "; ".join(_told(violation) for violation in self.violations)
        # A message that already spells the violations out is not repeated.
        if not told or all(one.description in self.message for one in self.violations):
            return self.message
        return f"{self.message}: {told}"


class InvalidRequest(ApiError):
    """The request cannot be carried out as it is written."""


class Unauthenticated(ApiError):
    """No token, or one that the service does not know."""


class PermissionDenied(ApiError):
    """The token is known, but may not do this."""


class NotFound(ApiError):
    """There is no such job, trainer, recipe or run."""


class JobNotFound(NotFound):
    """There is no such job; `metadata["job"]` names it."""


class AlreadyExists(ApiError):
    """The output folder, job id, request id or recipe name is taken."""


class FailedPrecondition(ApiError):
    """Not in this state of things."""


class ForbiddenMove(FailedPrecondition):
    """The job's state does not allow the move; `metadata` names both."""


class Aborted(ApiError):
    """What was edited is not the latest any more: read it again, and decide anew."""


class ResourceExhausted(ApiError):
    """A limit is reached: the queue, a message's size, a disk."""


class Unavailable(ApiError):
    """The service cannot be reached, or cannot answer now. Worth trying again."""


class DeadlineExceeded(ApiError):
    """The call took longer than the client's `timeout`."""


class Unimplemented(ApiError):
    """The service does not know this call: it is older than this client."""


class Internal(ApiError):
    """An error nobody foresaw."""


# What each reason and, for reasons of a newer service and for gRPC's own
# errors, each code is raised as. Reasons go before codes.
EXCEPTIONS: Mapping[str, type[ApiError]] = MappingProxyType(
    {
        Reason.FORBIDDEN_MOVE: ForbiddenMove,
        Reason.JOB_NOT_FOUND: JobNotFound,
        "INVALID_ARGUMENT": InvalidRequest,
        "OUT_OF_RANGE": InvalidRequest,
        "UNAUTHENTICATED": Unauthenticated,
        "PERMISSION_DENIED": PermissionDenied,
        "NOT_FOUND": NotFound,
        "ALREADY_EXISTS": AlreadyExists,
        "FAILED_PRECONDITION": FailedPrecondition,
        "ABORTED": Aborted,
        "RESOURCE_EXHAUSTED": ResourceExhausted,
        "UNAVAILABLE": Unavailable,
        "DEADLINE_EXCEEDED": DeadlineExceeded,
        "UNIMPLEMENTED": Unimplemented,
        "INTERNAL": Internal,
        "DATA_LOSS": Internal,
    }
)


def api_error(rich: RichError) -> ApiError:
    """The exception for an error as it travelled."""
    kind = EXCEPTIONS.get(rich.reason) or EXCEPTIONS.get(rich.code, ApiError)
    return kind(
        rich.message,
        reason=rich.reason,
        code=rich.code,
        metadata=rich.metadata,
        violations=rich.violations,
        retry_delay_seconds=rich.retry_delay_seconds,
    )


def error_from_rpc(failed: grpc.RpcError, called: str = "") -> ApiError:
    """The exception for a failed call; raise it `from None`.

    `called` ("the scheduler at 127.0.0.1:7400") makes gRPC's own words about a
    broken connection tell a person what could not be reached.
    """
    error = api_error(rich_error(failed))
    if isinstance(error, Unavailable) and not error.reason and called:
        why = error.message.rpartition(": ")[2]
        told = f"cannot reach {called}: {why}"
        return Unavailable(told, code=error.code, retry_delay_seconds=error.retry_delay_seconds)
    return error


def invalid_request(violations: Sequence[Violation]) -> InvalidRequest:
    """What cannot even be put into a request, refused as the service would refuse it."""
    named = "; ".join(_told(violation) for violation in violations)
    return InvalidRequest(
        named,
        reason=Reason.INVALID_REQUEST,
        code=CODES[Reason.INVALID_REQUEST],
        violations=violations,
    )


def _told(violation: Violation) -> str:
    return (
        f"{violation.field}: {violation.description}"
        if violation.field
        else (violation.description)
    )
