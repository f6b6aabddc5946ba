"""What trainers report and are ordered to do, to and from its messages.

Names and times that make no sense are noted as violations; everything else of
a report is taken as it is, since a refused report would lose the end of a run.
"""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from tunewright.v1 import feed_pb2, registry_service_pb2
from tunewright.wire import names
from tunewright.wire.times import duration, moment

from scheduler_svc.converters.jobs import failure_of, output_of, progress_of
from scheduler_svc.converters.text import line
from scheduler_svc.converters.trainers import capabilities_of, gpus_of
from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.job import FinalCursor, JobId, TrainerId
from scheduler_svc.domain.run import (
    AssignedRun,
    Heartbeat,
    Registration,
    Reporter,
    RunKey,
    RunOutcome,
    RunPhase,
    RunReport,
    StopOrder,
)
from svckit.config import split_address
from svckit.spec.text_rules import without_control_characters
from svckit.spec.wire import spec_to_proto

RUNS_MAX = 10_000
_ATTEMPT_MAX = 2**31 - 1
_CURSORS_MAX = 64


def registration_of(message: registry_service_pb2.RegisterTrainerRequest) -> Registration:
    """Raises InvalidRequest with every bad field."""
    noted = Violations()
    reporter = _reporter(message.trainer, message.incarnation, noted)
    with noted.noting("address"):
        split_address(without_control_characters(message.address))
    for field in ("boot_id", "workspace_uuid"):
        if not getattr(message, field):
            noted.add(field, "is required")
    runs = _reports(message.runs, noted)
    noted.refuse_any()
    return Registration(
        reporter=reporter,
        address=line(message.address),
        boot_id=line(message.boot_id),
        workspace_uuid=line(message.workspace_uuid),
        capabilities=capabilities_of(message.capabilities),
        gpus=gpus_of(message.gpus),
        runs=runs,
        database_uuid=line(message.database_uuid),
    )


def heartbeat_of(message: registry_service_pb2.HeartbeatRequest) -> Heartbeat:
    """Raises InvalidRequest with every bad field."""
    noted = Violations()
    reporter = _reporter(message.trainer, message.incarnation, noted)
    runs = _reports(message.runs, noted)
    noted.refuse_any()
    return Heartbeat(
        reporter=reporter,
        sequence=message.sequence,
        gpus=gpus_of(message.gpus),
        runs=runs,
        disk_bytes_free=max(0, message.disk_bytes_free),
    )


def report_of(
    message: registry_service_pb2.ReportRunRequest,
) -> tuple[Reporter, RunReport]:
    """Raises InvalidRequest with every bad field."""
    noted = Violations()
    reporter = _reporter(message.trainer, message.incarnation, noted)
    report = run_report_of(message.run, "run", noted)
    noted.refuse_any()
    assert report is not None
    return reporter, report


def publication_of(
    message: registry_service_pb2.BeginPublishRequest,
) -> tuple[Reporter, RunKey]:
    """Who asks for the grant to publish, and for what. Raises InvalidRequest."""
    noted = Violations()
    reporter = _reporter(message.trainer, message.incarnation, noted)
    key = _key(message.job, message.attempt, "", noted)
    noted.refuse_any()
    assert key is not None
    return reporter, key


def run_report_of(
    message: registry_service_pb2.RunStatus, path: str, noted: Violations
) -> RunReport | None:
    """A run as its trainer holds it; None where something about it was noted."""
    key = _key(message.job, message.attempt, f"{path}.", noted)
    phases = {registry_service_pb2.RunPhase.Value(phase.value): phase for phase in RunPhase}
    if message.phase not in phases:
        noted.add(f"{path}.phase", f"{message.phase} is no phase that is known here")
        return None
    outcomes = {registry_service_pb2.RunOutcome.Value(known.value): known for known in RunOutcome}
    if message.outcome not in outcomes:
        noted.add(f"{path}.outcome", f"{message.outcome} is no outcome that is known here")
        return None
    if key is None:
        return None
    with noted.noting(path):
        return RunReport(
            key=key,
            phase=phases[message.phase],
            outcome=outcomes[message.outcome],
            failure=failure_of(message.failure) if message.HasField("failure") else None,
            output=output_of(message.output) if message.HasField("output") else None,
            progress=progress_of(message.progress) if message.HasField("progress") else None,
            final_cursors=tuple(map(_cursor, message.final_cursors[:_CURSORS_MAX])),
            start_time=_time(message.start_time, message.HasField("start_time")),
            end_time=_time(message.end_time, message.HasField("end_time")),
        )
    return None


def assignment_message(run: AssignedRun) -> registry_service_pb2.Assignment:
    """A run that a trainer is to start."""
    return registry_service_pb2.Assignment(
        job=names.job_name(run.key.job_id),
        attempt=run.key.attempt,
        spec=spec_to_proto(run.spec),
        gpu_ids=run.gpu_ids,
        resume=run.resume,
    )


def stop_message(order: StopOrder) -> registry_service_pb2.StopOrder:
    """A run that a trainer is to stop."""
    message = registry_service_pb2.StopOrder(
        job=names.job_name(order.key.job_id),
        attempt=order.key.attempt,
        mode=registry_service_pb2.StopMode.Value(order.mode.value),
    )
    if order.grace_seconds is not None:
        message.grace.CopyFrom(duration(order.grace_seconds))
    return message


def key_message(key: RunKey) -> registry_service_pb2.RunKey:
    """The name of a run."""
    return registry_service_pb2.RunKey(job=names.job_name(key.job_id), attempt=key.attempt)


def _reporter(trainer: str, incarnation: str, noted: Violations) -> Reporter:
    trainer_id = ""
    with noted.noting("trainer"):
        trainer_id = names.trainer_id(trainer)
    if not incarnation:
        noted.add("incarnation", "is required")
    return Reporter(TrainerId(trainer_id), line(incarnation))


def _reports(
    messages: Sequence[registry_service_pb2.RunStatus], noted: Violations
) -> tuple[RunReport, ...]:
    if len(messages) > RUNS_MAX:
        noted.add("runs", f"must be at most {RUNS_MAX}; got {len(messages)}")
        return ()
    found = (
        run_report_of(message, f"runs[{index}]", noted) for index, message in enumerate(messages)
    )
    return tuple(report for report in found if report is not None)


def _key(job: str, attempt: int, path: str, noted: Violations) -> RunKey | None:
    if not 1 <= attempt <= _ATTEMPT_MAX:
        noted.add(f"{path}attempt", f"must be at least 1; got {attempt}")
        return None
    with noted.noting(f"{path}job"):
        return RunKey(JobId(names.job_id(job)), attempt)
    return None


def _cursor(message: feed_pb2.FeedCursor) -> FinalCursor:
    return FinalCursor(line(message.source), line(message.stream), message.position)


def _time(message: Timestamp, present: bool) -> datetime | None:
    return moment(message) if present else None
