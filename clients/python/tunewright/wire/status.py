"""Errors on the wire: `RichError` to and from `google.rpc.Status`.

Field violations are kept up to 6 KiB, with a count of the rest: gRPC carries
status details in metadata, whose limit is 8 KiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any as TypingAny

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tunewright.wire.reasons import CODES, DOMAIN, Reason, Violation

VIOLATION_BYTES_MAX = 6 * 1024
_MESSAGE_CHARS_MAX = 1024
_DESCRIPTION_CHARS_MAX = 512


@dataclass(frozen=True)
class RichError:
    """An error as it travels. `reason` is "" if the other end named none."""

    code: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Sequence[Violation] = ()
    retry_delay_seconds: float | None = None


def make_error(
    reason: Reason,
    message: str,
    metadata: Mapping[str, str] | None = None,
    violations: Sequence[Violation] = (),
    retry_delay_seconds: float | None = None,
) -> RichError:
    """A `RichError` with the code that belongs to the reason."""
    return RichError(
        CODES[reason], str(reason), message, metadata or {}, violations, retry_delay_seconds
    )


def status_of(error: RichError) -> status_pb2.Status:
    """The `google.rpc.Status` of an error: ErrorInfo, then BadRequest and RetryInfo if any."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    info.metadata.update({key: value[:256] for key, value in error.metadata.items()})
    details: list[Message] = [info]
    if error.violations:
        details.append(_bad_request(error.violations))
    if error.retry_delay_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMicroseconds(round(error.retry_delay_seconds * 1e6))
        details.append(retry)
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.code),
        message=error.message[:_MESSAGE_CHARS_MAX],
        details=[_packed(detail) for detail in details],
    )


def rich_error(failed: grpc.RpcError) -> RichError:
    """What a failed call says, from `grpc` or `grpc.aio`; never raises."""
    call: TypingAny = failed  # both kinds have code(), details() and trailing_metadata()
    if not hasattr(call, "code"):
        return RichError("UNKNOWN", "", str(failed))
    code = call.code().name if call.code() is not None else "UNKNOWN"
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # code or message differ from the details: a proxy rewrote them
        status = None
    if status is None:
        return RichError(code, "", call.details() or code)
    return _unpacked(code, status)


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for index, violation in enumerate(violations):
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=violation.field[:256], description=violation.description[:_DESCRIPTION_CHARS_MAX]
        )
        if bad.ByteSize() + entry.ByteSize() > VIOLATION_BYTES_MAX:
            rest = len(violations) - index
            bad.field_violations.add(field="", description=f"and {rest} more")
            break
        bad.field_violations.append(entry)
    return bad


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _unpacked(code: str, status: status_pb2.Status) -> RichError:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    delay: float | None = None
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            delay = retry.retry_delay.ToMicroseconds() / 1e6
    violations = tuple(Violation(v.field, v.description) for v in bad.field_violations)
    return RichError(code, info.reason, status.message, dict(info.metadata), violations, delay)
