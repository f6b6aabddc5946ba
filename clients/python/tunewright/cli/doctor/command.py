"""The command: asks everybody, says what it has found, line by line as it is found."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated

import typer
from google.protobuf.message import Message

import tunewright
from tunewright import rpcs
from tunewright.cli.doctor import services
from tunewright.cli.doctor.findings import Finding, Level, broken
from tunewright.cli.doctor.hosts import HostReply, host_findings
from tunewright.cli.doctor.probes import Prober, Reply
from tunewright.cli.doctor.trial import AskEntries, try_training
from tunewright.cli.exits import ExitCode
from tunewright.cli.options import Address, AsJson
from tunewright.cli.output import note, say
from tunewright.client import Client
from tunewright.connection import Connection, check_address, resolve_connection
from tunewright.v1 import (
    fleet_service_pb2,
    job_service_pb2,
    monitor_service_pb2,
    trainer_pb2,
    trainer_service_pb2,
)
from tunewright.wire.reasons import Reason

# Trainers asked at once: one that does not answer holds up no other.
_AT_ONCE = 32
_WAITING = "state = QUEUED"


def doctor(
    train: Annotated[
        bool, typer.Option("--train", help="Also run a tiny training job on this machine's CPU.")
    ] = False,
    monitor: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Address of the monitor. Default: the one it advertises."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Time limit for each answer, in seconds.")
    ] = 5.0,
    train_seconds: Annotated[
        float, typer.Option(min=1, help="Time limit for --train, in seconds.")
    ] = 300.0,
    as_json: AsJson = False,
    address: Address = None,
) -> ExitCode:
    """Check the installation and suggest fixes.

    Exit code 1 if there is an error (✗); warnings (!) leave it 0.
    """
    connection = resolve_connection(address, None, None)
    look = Look(connection, timeout, check_address(monitor) if monitor else None)
    worst = dict.fromkeys(Level, 0)
    for finding in look.findings(train_seconds if train else None):
        say(finding.json_line() if as_json else finding.line())
        worst[finding.level] += 1
    if not as_json:
        note(
            f"{_counted(worst[Level.ERROR], 'error')}, {_counted(worst[Level.WARNING], 'warning')}"
        )
    return ExitCode.FAILED if worst[Level.ERROR] else ExitCode.OK


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Look:
    """One look at an installation; the scheduler's address is the connection's."""

    def __init__(self, connection: Connection, seconds_max: float, monitor: str | None) -> None:
        self._connection = connection
        self._seconds_max = seconds_max
        self._prober = Prober(connection, seconds_max)
        self._monitor = monitor
        self._monitor_that_answers: str | None = None
        self._versions: dict[str, str] = {}
        self._ahead: dict[str, tuple[float, float]] = {}

    def findings(self, train_seconds: float | None) -> Iterator[Finding]:
        """Everything there is to say; with `train_seconds` it trains as well."""
        where = self._connection.address
        reply = self._prober.ask(rpcs.GET_ENDPOINTS, fleet_service_pb2.GetEndpointsRequest(), where)
        start_it = "start it (tunewright up), or say where it is: --address HOST:PORT"
        yield services.reached("scheduler", reply, start_it)
        if reply.answer is None:
            return
        self._note("scheduler", reply, reply.answer.version)
        yield from self._monitors(reply.answer.monitors)
        trainers, are_all = yield from self._list_trainers()
        hosts = self._ask_hosts(trainers)
        for host in hosts:
            yield from host_findings(host)
        if are_all:
            yield from services.fleet(trainers)
        yield from services.versions(tunewright.__version__, self._versions)
        yield from services.clocks(self._ahead)
        for host in hosts:
            scheduler, its_own = self._ahead.get("scheduler"), self._ahead.get(host.name)
            yield from services.clock_of_trainer(host.name, scheduler, its_own)
        yield self._waiting()
        if train_seconds is not None:
            yield from self._try_training(hosts, train_seconds)

    def _monitors(self, listed: Sequence[str]) -> Iterator[Finding]:
        addresses = [self._monitor] if self._monitor else list(listed)
        if not addresses:
            advice = "start one: python -m monitor_svc --scheduler HOST:PORT"
            yield broken("monitor", "the scheduler knows of none, so nothing is shown", advice)
        for address in addresses:
            name = "monitor" if len(addresses) == 1 else f"monitor {address}"
            # There is no such job: to say so, it has to have looked.
            request = monitor_service_pb2.ListEntriesRequest(job="jobs/doctor", page_size=1)
            reply = self._prober.ask(rpcs.LIST_ENTRIES, request, address)
            start_it = "start it, or say where it can be reached from here: --monitor HOST:PORT"
            finding = services.reached(name, reply, start_it, Reason.JOB_NOT_FOUND)
            yield finding
            yield from services.advertised(name, address)
            if finding.level is Level.OK:
                self._note(name, reply, reply.version)
                self._monitor_that_answers = self._monitor_that_answers or address

    def _list_trainers(self) -> Generator[Finding, None, tuple[list[trainer_pb2.Trainer], bool]]:
        """Yields what went wrong; returns the trainers, and whether these are all."""
        request = fleet_service_pb2.ListTrainersRequest(page_size=1000)
        found: list[trainer_pb2.Trainer] = []
        while True:
            reply = self._prober.ask(rpcs.LIST_TRAINERS, request, self._connection.address)
            if reply.answer is None:
                yield broken("trainers", str(reply.error), "see the scheduler's log")
                return found, False
            found.extend(reply.answer.trainers)
            request.page_token = reply.answer.next_page_token
            if not request.page_token:
                return found, True

    def _ask_hosts(self, trainers: Sequence[trainer_pb2.Trainer]) -> list[HostReply]:
        request = trainer_service_pb2.GetSystemInfoRequest()

        def ask(trainer: trainer_pb2.Trainer) -> HostReply:
            return HostReply(
                trainer, self._prober.ask(rpcs.GET_SYSTEM_INFO, request, trainer.address)
            )

        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            hosts = list(pool.map(ask, trainers))
        for host in hosts:
            self._note(host.name, host.reply, host.capabilities.version)
        return hosts

    def _waiting(self) -> Finding:
        request = job_service_pb2.ListJobsRequest(filter=_WAITING, page_size=1000)
        reply = self._prober.ask(rpcs.LIST_JOBS, request, self._connection.address)
        if reply.answer is None:
            return broken("queue", str(reply.error), "see the scheduler's log")
        return services.waiting(reply.answer.jobs, bool(reply.answer.next_page_token))

    def _try_training(self, hosts: Sequence[HostReply], seconds_max: float) -> Iterator[Finding]:
        address = self._monitor_that_answers
        ask: AskEntries | None = None
        if address is not None:
            ask = partial(self._entries, address)
        with Client(self._connection.address, timeout=self._seconds_max) as client:
            yield from try_training(client, hosts, ask, seconds_max)

    def _entries(
        self, address: str, request: monitor_service_pb2.ListEntriesRequest
    ) -> Reply[monitor_service_pb2.ListEntriesResponse]:
        return self._prober.ask(rpcs.LIST_ENTRIES, request, address)

    def _note(self, name: str, reply: Reply[Message], version: str) -> None:
        """Remembers version and clock, to compare them at the end."""
        self._versions[name] = version
        if reply.ahead_seconds is not None:
            self._ahead[name] = (reply.ahead_seconds, reply.took_seconds / 2)
