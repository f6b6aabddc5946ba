"""A scheduler and a monitor in memory, behind real gRPC servers on 127.0.0.1.

They keep the contract as far as clients see it: pages, idempotency,
sequences. They can be told to fail, to lose an answer, and to go away and come back.
"""

# ruff: noqa: N802 # the contract names the methods
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status
from tunewright.v1 import (
    data_service_pb2,
    data_service_pb2_grpc,
    feed_pb2,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    monitor_service_pb2,
    monitor_service_pb2_grpc,
    trainer_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)
from tunewright.wire.reasons import Reason
from tunewright.wire.status import RichError, make_error, status_of

TERMINAL = (
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_FAILED,
    job_pb2.JOB_STATE_CANCELLED,
)


def abort(context: Any, error: RichError) -> NoReturn:
    """Ends a call as our services do."""
    context.abort_with_status(rpc_status.to_status(status_of(error)))
    raise AssertionError("unreachable")


class Served:
    """A gRPC server that can stop and start again on its port."""

    def __init__(self, add: Callable[[grpc.Server], None]) -> None:
        self._add = add
        self._server: grpc.Server | None = None
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=32), options=[("grpc.so_reuseport", 0)]
        )
        self._add(self._server)
        port = self._server.add_insecure_port(self.address)
        assert port, f"{self.address} cannot be bound again"
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop(None).wait()


@dataclass
class FakeScheduler(
    job_service_pb2_grpc.JobServiceServicer,
    fleet_service_pb2_grpc.FleetServiceServicer,
    data_service_pb2_grpc.DataServiceServicer,
):
    """Jobs in a dict. `failures` are given instead of answers, first come first served."""

    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    requests: list[Message] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    failures: list[RichError] = field(default_factory=list)
    lose_answers: int = 0
    monitors: list[str] = field(default_factory=list)
    trainers: dict[str, trainer_pb2.Trainer] = field(default_factory=dict)
    why_nowhere: str = ""
    check_says: list[data_service_pb2.CheckDataResponse] = field(default_factory=list)
    checks_open: int = 0
    checks_held: bool = False
    by_request_id: dict[str, str] = field(default_factory=dict)

    def serve(self) -> Served:
        def add(server: grpc.Server) -> None:
            job_service_pb2_grpc.add_JobServiceServicer_to_server(self, server)
            fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(self, server)
            data_service_pb2_grpc.add_DataServiceServicer_to_server(self, server)

        return Served(add)

    def add(
        self, job_id: str, state: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_RUNNING
    ) -> str:
        name = f"jobs/{job_id}"
        self.jobs[name] = job_pb2.Job(name=name, state=state)
        return name

    def CreateJob(self, request: job_service_pb2.CreateJobRequest, context: Any) -> job_pb2.Job:
        self._enter(request, context)
        if request.validate_only:
            plan = job_pb2.JobPlan(
                trainers=[] if self.why_nowhere else ["trainers/a"],
                argv=["train"],
                checked=["the form"],
                not_checked=["the model", "the data"],
            )
            return job_pb2.Job(spec=request.job.spec, plan=plan, pending_reason=self.why_nowhere)
        name = self.by_request_id.get(request.request_id)
        if name is None:
            name = f"jobs/{request.job_id or f'job-{len(self.jobs) + 1}'}"
            self.jobs[name] = job_pb2.Job()
            self.jobs[name].CopyFrom(request.job)
            self.jobs[name].name = name
            held = job_pb2.JOB_STATE_HELD if request.hold else job_pb2.JOB_STATE_QUEUED
            self.jobs[name].state = held
            self.by_request_id[request.request_id] = name
        if self.lose_answers:
            self.lose_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        return self.jobs[name]

    def GetJob(self, request: job_service_pb2.GetJobRequest, context: Any) -> job_pb2.Job:
        return self._find(request, context)

    def ListJobs(
        self, request: job_service_pb2.ListJobsRequest, context: Any
    ) -> job_service_pb2.ListJobsResponse:
        self._enter(request, context)
        start, size = int(request.page_token or 0), request.page_size or 100
        found = [job for job in self.jobs.values() if _matches(job, request.filter)]
        page = found[start : start + size]
        more = start + size < len(found)
        return job_service_pb2.ListJobsResponse(
            jobs=page, next_page_token=str(start + size) if more else ""
        )

    def UpdateJob(self, request: job_service_pb2.UpdateJobRequest, context: Any) -> job_pb2.Job:
        self._enter(request, context)
        job = self.jobs[request.job.name]
        request.update_mask.MergeMessage(request.job, job, True, True)
        return job

    def StartJob(self, request: Any, context: Any) -> job_pb2.Job:
        return self._move(request, context, job_pb2.JOB_STATE_QUEUED)

    def CancelJob(self, request: Any, context: Any) -> job_pb2.Job:
        return self._move(request, context, job_pb2.JOB_STATE_CANCELLING)

    def PauseJob(self, request: Any, context: Any) -> job_pb2.Job:
        return self._move(request, context, job_pb2.JOB_STATE_PAUSING)

    def ResumeJob(self, request: Any, context: Any) -> job_pb2.Job:
        return self._move(request, context, job_pb2.JOB_STATE_QUEUED)

    def RetryJob(self, request: Any, context: Any) -> job_pb2.Job:
        found = self._find(request, context)
        return job_pb2.Job(name=f"{found.name}-again", retry_of=found.name)

    def DeleteJob(self, request: Any, context: Any) -> job_pb2.Job:
        job = self._find(request, context)
        job.delete_time.GetCurrentTime()
        return job

    def CheckData(
        self, request: data_service_pb2.CheckDataRequest, context: Any
    ) -> Iterator[data_service_pb2.CheckDataResponse]:
        """Says `check_says`; then, with `checks_held`, goes on until the client ends it."""
        self._enter(request, context)
        ended = threading.Event()
        context.add_callback(ended.set)
        self.checks_open += 1
        try:
            yield from self.check_says
            if self.checks_held:
                ended.wait(60)
        finally:
            self.checks_open -= 1

    def GetEndpoints(self, request: Any, context: Any) -> fleet_service_pb2.Endpoints:
        self._enter(request, context)
        return fleet_service_pb2.Endpoints(monitors=self.monitors, version="9.9")

    def ListTrainers(self, request: Any, context: Any) -> fleet_service_pb2.ListTrainersResponse:
        self._enter(request, context)
        start = int(request.page_token or 0)
        found = list(self.trainers.values())
        more = start + 1 < len(found)
        return fleet_service_pb2.ListTrainersResponse(
            trainers=found[start : start + 1], next_page_token=str(start + 1) if more else ""
        )

    def GetTrainer(self, request: Any, context: Any) -> trainer_pb2.Trainer:
        return self._trainer(request, context)

    def CordonTrainer(self, request: Any, context: Any) -> trainer_pb2.Trainer:
        trainer = self._trainer(request, context)
        trainer.cordoned = True
        return trainer

    def UncordonTrainer(self, request: Any, context: Any) -> trainer_pb2.Trainer:
        trainer = self._trainer(request, context)
        trainer.cordoned = False
        return trainer

    def calls(self, kind: type[Message]) -> list[Any]:
        """The requests of one kind, in order."""
        return [request for request in self.requests if isinstance(request, kind)]

    def _enter(self, request: Message, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        endpoints = isinstance(request, fleet_service_pb2.GetEndpointsRequest)
        if self.failures and not endpoints:
            abort(context, self.failures.pop(0))

    def _find(self, request: Any, context: Any) -> job_pb2.Job:
        self._enter(request, context)
        if request.name not in self.jobs:
            abort(context, make_error(Reason.JOB_NOT_FOUND, f"job not found: {request.name}"))
        return self.jobs[request.name]

    def _move(self, request: Any, context: Any, to: job_pb2.JobState.ValueType) -> job_pb2.Job:
        job = self._find(request, context)
        if job.state in TERMINAL:
            told = {"from": job_pb2.JobState.Name(job.state), "to": job_pb2.JobState.Name(to)}
            abort(context, make_error(Reason.FORBIDDEN_MOVE, f"{job.name} has ended", told))
        job.state = to
        return job

    def _trainer(self, request: Any, context: Any) -> trainer_pb2.Trainer:
        self._enter(request, context)
        if request.name not in self.trainers:
            abort(
                context, make_error(Reason.TRAINER_NOT_FOUND, f"trainer not found: {request.name}")
            )
        return self.trainers[request.name]


@dataclass
class FakeMonitor(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Entries in memory. `break_after` ends a subscription with an error after so many entries."""

    entries: list[feed_pb2.Entry] = field(default_factory=list)
    requests: list[monitor_service_pb2.SubscribeRequest] = field(default_factory=list)
    failures: list[RichError] = field(default_factory=list)
    series: dict[str, monitor_service_pb2.MetricSeries] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    resend: int = 0
    active: int = 0
    # Jobs that do not exist.
    missing: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def serve(self) -> Served:
        def add(server: grpc.Server) -> None:
            monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server(self, server)

        return Served(add)

    def append(self, job: str, **payload: Any) -> feed_pb2.Entry:
        """Stores an entry under the job's next sequence, and wakes the subscribers."""
        with self._changed:
            sequence = 1 + sum(entry.job == job for entry in self.entries)
            entry = feed_pb2.Entry(sequence=sequence, job=job, attempt=1, **payload)
            entry.time.GetCurrentTime()
            self.entries.append(entry)
            self._changed.notify_all()
        return entry

    def step(self, job: str, step: int, loss: float = 1.0) -> feed_pb2.Entry:
        """A logging step."""
        metrics = feed_pb2.TrainMetrics(
            step=step, total_steps=100, loss=loss, learning_rate=1e-4, tokens_per_second=500.0
        )
        return self.append(job, train_metrics=metrics)

    def end(self, job: str, state: job_pb2.JobState.ValueType) -> feed_pb2.Entry:
        """The terminal entry."""
        return self.append(job, state_change=feed_pb2.StateChange(to=state))

    def Subscribe(
        self, request: monitor_service_pb2.SubscribeRequest, context: Any
    ) -> Iterator[monitor_service_pb2.SubscribeResponse]:
        self.requests.append(request)
        if self.failures:
            abort(context, self.failures.pop(0))
        for job in self.missing.intersection(request.jobs):
            if not request.wait_for_job:
                abort(context, make_error(Reason.JOB_NOT_FOUND, f"job not found: {job}"))
        self.active += 1
        try:
            yield from self._stream(request, context)
        finally:
            self.active -= 1

    def StreamLogs(
        self, request: monitor_service_pb2.StreamLogsRequest, context: Any
    ) -> Iterator[monitor_service_pb2.StreamLogsResponse]:
        lines = [
            entry
            for entry in self.entries
            if entry.job == request.job
            and entry.HasField("log_line")
            and entry.sequence > request.after_sequence
        ]
        if request.tail_lines:
            lines = lines[-request.tail_lines :]
        yield monitor_service_pb2.StreamLogsResponse(entries=lines)

    def ListEntries(self, request: Any, context: Any) -> monitor_service_pb2.ListEntriesResponse:
        """Pages of two, so that a client has to turn them."""
        if self.failures:
            abort(context, self.failures.pop(0))
        start = int(request.page_token or 0)
        found = [entry for entry in self.entries if entry.job == request.job]
        more = start + 2 < len(found)
        return monitor_service_pb2.ListEntriesResponse(
            entries=found[start : start + 2], next_page_token=str(start + 2) if more else ""
        )

    def GetMetricSeries(self, request: Any, context: Any) -> monitor_service_pb2.MetricSeries:
        if self.failures:
            abort(context, self.failures.pop(0))
        return self.series[request.metric]

    def _stream(self, request: Any, context: Any) -> Iterator[Any]:
        limit = self.break_after.pop(0) if self.break_after else None
        at = self._start(request)
        yield monitor_service_pb2.SubscribeResponse(entries=[_keepalive()])
        open_jobs = set(request.jobs)
        sent = 0
        while context.is_active():
            if limit is not None and sent >= limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
            with self._changed:
                while at >= len(self.entries) and context.is_active():
                    self._changed.wait(0.05)
                entry = self.entries[at] if at < len(self.entries) else None
            at += 1
            if entry is None or (request.jobs and entry.job not in request.jobs):
                continue
            sent += 1
            yield monitor_service_pb2.SubscribeResponse(entries=[entry], resume_token=str(at))
            if entry.HasField("state_change") and entry.state_change.to in TERMINAL:
                open_jobs.discard(entry.job)
                if request.until_terminal and not open_jobs:
                    return

    def _start(self, request: Any) -> int:
        if request.resume_token:
            return max(int(request.resume_token) - self.resend, 0)
        if request.start == monitor_service_pb2.START_POSITION_NOW:
            return len(self.entries)
        after = max(request.after_sequence - self.resend, 0)
        if not after:
            return 0
        job = request.jobs[0]
        for index, entry in enumerate(self.entries):
            if entry.job == job and entry.sequence == after:
                return index + 1
        return len(self.entries)


class FakeTrainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """A host that tells what it is."""

    def serve(self) -> Served:
        def add(server: grpc.Server) -> None:
            trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(self, server)

        return Served(add)

    def GetSystemInfo(self, request: Any, context: Any) -> trainer_service_pb2.SystemInfo:
        return trainer_service_pb2.SystemInfo(hostname="host-a", python_version="3.11.7")


def _matches(job: job_pb2.Job, filter_: str) -> bool:
    """As much of a filter as these tests use: "state = A OR state = B"."""
    states = [part.removeprefix("state = ") for part in filter_.split(" OR ") if part]
    name = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_")
    return not states or name in states


def _keepalive() -> feed_pb2.Entry:
    return feed_pb2.Entry(keepalive=feed_pb2.Keepalive())
