"""Orders off the wire: assignments, stops, data checks; checked and turned into our own words."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.v1 import data_service_pb2, registry_service_pb2
from tunewright.wire.times import seconds_of

from svckit.refusal import InvalidRequest, Violation
from svckit.spec.wire import spec_from_proto, spec_to_proto
from trainer_svc.domain.runs import RunKey, StopMode
from trainer_svc.supervisor.data_checks import ROWS_SHOWN_DEFAULT, ROWS_SHOWN_MAX, CheckOrder
from trainer_svc.supervisor.starting import StartOrder


@dataclass(frozen=True)
class StopRequest:
    """Which run, why, and how long it may take (seconds; None: the trainer's own)."""

    key: RunKey
    mode: StopMode
    grace_seconds: float | None


def start_order(assignment: registry_service_pb2.Assignment, field: str) -> StartOrder:
    """An assignment. Raises InvalidRequest."""
    key = run_key(assignment.job, assignment.attempt, field)
    return StartOrder(key, assignment.spec, tuple(assignment.gpu_ids), assignment.resume)


def stop_request(stop: registry_service_pb2.StopOrder, field: str) -> StopRequest:
    """A stop. Raises InvalidRequest."""
    key = run_key(stop.job, stop.attempt, field)
    modes = {
        registry_service_pb2.STOP_MODE_PAUSE: StopMode.PAUSE,
        registry_service_pb2.STOP_MODE_CANCEL: StopMode.CANCEL,
        registry_service_pb2.STOP_MODE_FENCE: StopMode.FENCE,
        registry_service_pb2.STOP_MODE_TIMEOUT: StopMode.TIMEOUT,
    }
    mode = modes.get(stop.mode)
    if mode is None:
        raise InvalidRequest.of([Violation(f"{field}.mode", "must be one of the known modes")])
    return StopRequest(key, mode, seconds_of(stop.grace) if stop.HasField("grace") else None)


def check_order(request: data_service_pb2.CheckDataRequest) -> CheckOrder:
    """A data check. Raises InvalidRequest."""
    shown = request.rows_shown if request.HasField("rows_shown") else ROWS_SHOWN_DEFAULT
    if not 0 <= shown <= ROWS_SHOWN_MAX:
        raise InvalidRequest.of(
            [Violation("rows_shown", f"must be 0 to {ROWS_SHOWN_MAX}, got {shown}")]
        )
    spec = spec_from_proto(request.spec, "spec")
    return CheckOrder(spec_to_proto(spec), spec.backend, shown)


def run_key(job: str, attempt: int, field: str) -> RunKey:
    """A run's key. Raises InvalidRequest."""
    try:
        return RunKey.of(job, attempt)
    except ValueError as error:
        raise InvalidRequest.of([Violation(f"{field}.job", str(error))]) from None
