"""Clients: people and programs that hand in jobs, steer them, and follow them.

A client retries a call whose answer it did not get, with the same request_id,
as the SDK does. What was answered is in the history: from then on it binds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright.v1 import (
    feed_pb2,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    spec_pb2,
)
from tunewright.wire.names import job_id
from tunewright.wire.status import rich_error

from tests.simulation.history import Event, History
from tests.simulation.monitor_node import MonitorService
from tests.simulation.network import CallFailed, Channel, Network
from tests.simulation.virtual_time import Process, World

_TRIES_MAX = 6
_CALL_SECONDS_MAX = 4.0
_RETRIED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
_SILENCE_SECONDS_MAX = 40.0


@dataclass
class Wishes:
    """What a job asks for."""

    on_gpu: bool
    gpu_count: int
    attempts_max: int
    run_timeout_seconds: int
    priority: int
    trainer: str = ""


class Client:
    """One caller of the scheduler."""

    def __init__(
        self, world: World, history: History, network: Network, process: Process, name: str
    ) -> None:
        channel: Any = Channel(network, process, name, "scheduler")
        self._world = world
        self._history = history
        self._process = process
        self._name = name
        self._jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self.known: list[str] = []
        """Ids of jobs that were acknowledged to it."""

    def create(self, number: int, wishes: Wishes, *, hold: bool) -> None:
        """Hands in a job, and again until it is answered."""
        request = job_service_pb2.CreateJobRequest(
            job=job_pb2.Job(spec=_spec(number, wishes), priority=wishes.priority),
            request_id=f"{self._name}-{number}",
            hold=hold,
        )
        self._process.spawn(self._create("CreateJob", request))

    def retry(self, job: str, number: int) -> None:
        """A new job like one that has ended."""
        request = job_service_pb2.RetryJobRequest(
            name=f"jobs/{job}", request_id=f"{self._name}-again-{number}"
        )
        self._process.spawn(self._create("RetryJob", request))

    def steer(self, verb: str, job: str) -> None:
        """CancelJob, PauseJob, ... of one job."""
        request: Any = getattr(job_service_pb2, f"{verb}Request")(name=f"jobs/{job}")
        self._process.spawn(self._steer(verb, job, request))

    def reprioritise(self, job: str, priority: int) -> None:
        """UpdateJob."""
        request = job_service_pb2.UpdateJobRequest(
            job=job_pb2.Job(name=f"jobs/{job}", priority=priority)
        )
        request.update_mask.paths.append("priority")
        self._process.spawn(self._steer("UpdateJob", job, request))

    def cordon(self, trainer: str, *, off: bool = False) -> None:
        """Takes a trainer out, or puts it back."""
        self._process.spawn(self._cordon(trainer, off=off))

    async def _cordon(self, trainer: str, *, off: bool) -> None:
        name = f"trainers/{trainer}"
        call = self._fleet.UncordonTrainer if off else self._fleet.CordonTrainer
        request: Any = fleet_service_pb2.CordonTrainerRequest(name=name)
        if off:
            request = fleet_service_pb2.UncordonTrainerRequest(name=name)
        await self._until_answered(call, request)

    async def _create(self, verb: str, request: Any) -> None:
        answer = await self._until_answered(getattr(self._jobs, verb), request)
        if answer is None:
            return
        job = job_id(answer.name)
        self._say("acknowledged", job, answer, request.request_id)
        if job not in self.known:
            self.known.append(job)

    async def _steer(self, verb: str, job: str, request: Any) -> None:
        answer = await self._until_answered(getattr(self._jobs, verb), request)
        if answer is not None:
            self._say("steered", job, answer, verb)

    def _say(self, kind: str, job: str, answer: job_pb2.Job, note: str) -> None:
        state = job_pb2.JobState.Name(answer.state)
        self._history.add(
            Event(self._world.now, kind, job, answer.attempt, self._name, state, note=note)
        )

    async def _until_answered(self, call: Any, request: Any) -> Any:
        for _ in range(_TRIES_MAX):
            try:
                return await call(request, timeout=_CALL_SECONDS_MAX)
            except CallFailed as failed:
                error = rich_error(failed)
                if error.code not in _RETRIED:
                    return None
            await asyncio.sleep(1.0)
        return None


def _spec(number: int, wishes: Wishes) -> spec_pb2.JobSpec:
    spec = spec_pb2.JobSpec(
        model=spec_pb2.ModelSource(name="/models/tiny"),
        train_data=[spec_pb2.DataSource(source="/data/train.jsonl")],
        output_dir=f"out/{number}",
    )
    resources = spec.resources
    resources.accelerator = spec_pb2.ACCELERATOR_GPU if wishes.on_gpu else spec_pb2.ACCELERATOR_CPU
    if wishes.on_gpu:
        resources.gpu_count = wishes.gpu_count
    if wishes.trainer:
        resources.trainer = f"trainers/{wishes.trainer}"
    if wishes.run_timeout_seconds:
        spec.run_timeout.FromSeconds(wishes.run_timeout_seconds)
    spec.retry_policy.attempts_max = wishes.attempts_max
    spec.retry_policy.backoff.FromSeconds(2)
    return spec


@dataclass
class Subscriber:
    """Follows one job by its sequence, over connections that break."""

    world: World
    history: History
    network: Network
    process: Process
    name: str
    job: str
    rng: random.Random
    last: int = 0
    """The last sequence it has."""
    _connection: int = 0
    _expected: int = 1
    _early: dict[int, Sequence[feed_pb2.Entry]] = field(default_factory=dict)
    _heard: float = 0.0

    def connect(self, monitor: MonitorService | None) -> None:
        """Begins anew after the last sequence; what was under way is forgotten."""
        self._connection += 1
        self._expected, self._heard = 1, self.world.now
        self._early.clear()
        if monitor is None:
            return
        connection, after = self._connection, self.last
        pause = 3.0 * self.rng.random() if self.rng.random() < 0.2 else 0.0

        def send(number: int, entries: Sequence[feed_pb2.Entry]) -> bool:
            if connection != self._connection:
                return False
            self.network.push(
                "monitor", self.name, lambda: self._receive(connection, number, entries), self.rng
            )
            return True

        self.network.push(
            self.name,
            "monitor",
            lambda: monitor.subscribe(f"jobs/{self.job}", after, send, pause),
            self.rng,
        )

    def watch(self, monitor: MonitorService | None) -> None:
        """Connects anew after a long silence, or just so."""
        silent = self.world.now - self._heard > _SILENCE_SECONDS_MAX
        if silent or self._early or self.rng.random() < 0.03:
            self.connect(monitor)

    def _receive(self, connection: int, number: int, entries: Sequence[feed_pb2.Entry]) -> None:
        if connection != self._connection:
            return
        self._early[number] = entries
        while self._expected in self._early:
            self._heard = self.world.now
            for entry in self._early.pop(self._expected):
                self._take(entry)
            self._expected += 1

    def _take(self, entry: feed_pb2.Entry) -> None:
        kind = entry.WhichOneof("payload") or ""
        if kind == "keepalive":
            return
        if kind == "gap":
            gap = entry.gap
            event = Event(
                self.world.now,
                "gap",
                self.job,
                place=self.name,
                value=gap.last_sequence,
                source=str(gap.first_sequence),
                note=gap.reason,
            )
            self.last = max(self.last, gap.last_sequence)
        else:
            event = Event(
                self.world.now,
                "delivered",
                self.job,
                entry.attempt,
                self.name,
                value=entry.sequence,
                note=describe(entry),
            )
            self.last = entry.sequence
        self.history.add(event)


def describe(entry: feed_pb2.Entry) -> str:
    """What an entry says, in a few words that name it."""
    kind = entry.WhichOneof("payload") or ""
    if kind == "state_change":
        return "state " + job_pb2.JobState.Name(entry.state_change.to)
    if kind == "train_metrics":
        return f"metrics {entry.train_metrics.step} line {entry.train_metrics.tokens}"
    if kind == "event":
        return f"event {entry.event.type}"
    return kind
