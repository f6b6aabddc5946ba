"""Data checks: each is a process of its own that holds no slot and sees no GPU.

Owns how many run at once, how long each may take, and that nothing of one is
left: whatever ends it, its processes and its folder go with it. Refuses what is
too much (TooManyChecks), takes too long (CheckTimedOut), and a process that
ended without a verdict (CheckCrashed). A trainer service that is killed cannot
end them; they see that their standard input closes, and end themselves.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from google.protobuf import json_format
from tunewright.v1 import data_service_pb2, job_pb2, spec_pb2

from svckit.limits import MESSAGE_BYTES_MAX
from svckit.spec import Backend
from trainer_svc.domain.classify import EndFacts, ExitRecord, classify
from trainer_svc.domain.command import check_marker, cpu_threads_per_job, data_check_command
from trainer_svc.domain.failure_messages import HINTS
from trainer_svc.domain.refusals import CheckCrashed, CheckTimedOut, Draining, TooManyChecks
from trainer_svc.domain.runs import Cause, Failure
from trainer_svc.supervisor.durable import make_folder, write_json
from trainer_svc.supervisor.settings import Settings
from trainer_svc.supervisor.spawn import own_environment
from trainer_svc.supervisor.starting import host_json, spec_json
from trainer_svc.supervisor.trees import TreeSigns, end_tree

CheckDataResponse = data_service_pb2.CheckDataResponse

ROWS_SHOWN_MAX = 20
ROWS_SHOWN_DEFAULT = 3
# The end of what the process prints: enough for a traceback.
_TAIL_BYTES_MAX = 64 * 1024
# A line is a message as JSON, in which a character may take six bytes.
_LINE_BYTES_MAX = 6 * MESSAGE_BYTES_MAX
# From the end of its report to the end of the process.
_EXIT_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class CheckOrder:
    """What is to be checked."""

    spec: spec_pb2.JobSpec
    backend: Backend
    rows_shown: int


class DataChecks:
    """All data checks of one trainer."""

    def __init__(self, trainer: str, settings: Settings, workspace_uuid: str) -> None:
        self._trainer = trainer
        self._settings = settings
        self._uuid = workspace_uuid
        self._folder = settings.workspace / "checks"
        self._running: set[DataCheck] = set()
        self._draining = False

    def open(self) -> None:
        """Removes what an earlier start has left. Blocking; called once, before anything else."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def close(self) -> None:
        """Ends all of them, and starts none any more. Safe to call twice."""
        self._draining = True
        await asyncio.gather(*(check.end() for check in list(self._running)))

    def admit(self, order: CheckOrder) -> DataCheck:
        """Takes a place; whoever got it calls `end`. Raises TooManyChecks, Draining."""
        if self._draining:
            raise Draining("this trainer service is ending", retry_delay_seconds=5.0)
        checks_max = self._settings.data_checks_max
        if len(self._running) >= checks_max:
            raise TooManyChecks(self._trainer, checks_max)
        check_id = str(uuid.uuid4())
        check = DataCheck(
            order,
            self._settings,
            self._folder / check_id,
            check_marker(self._uuid, check_id),
            self._trainer,
        )
        self._running.add(check)
        check.on_end = self._running.discard
        return check


class DataCheck:
    """One data check."""

    def __init__(
        self, order: CheckOrder, settings: Settings, folder: Path, marker: str, trainer: str
    ) -> None:
        self._order = order
        self._settings = settings
        self._folder = folder
        self._marker = marker
        self._trainer = trainer
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.Task[None] | None = None
        self._ended = False
        self._tail = b""
        self.on_end: Any = lambda _: None

    async def messages(self) -> AsyncIterator[CheckDataResponse]:
        """What it says, the verdict last. Raises CheckTimedOut, CheckCrashed, Draining, OSError."""
        yield CheckDataResponse(
            started=data_service_pb2.DataCheckStarted(trainer=self._trainer, spec=self._order.spec)
        )
        missing = self._settings.missing_backends.get(self._order.backend)
        if missing is not None:
            yield _refused(Cause.ENVIRONMENT_INVALID, self._order.backend, missing)
            return
        deadline = asyncio.get_running_loop().time() + self._settings.data_check_seconds_max
        process = await self._spawn()
        printing = asyncio.create_task(self._keep_tail(process))
        verdict: CheckDataResponse | None = None
        while (message := await self._next(process, deadline)) is not None:
            if message.HasField("verdict"):
                verdict = message  # held back: the end of the process may have more to say
            else:
                yield message
        code = await self._exit_code(process)
        await asyncio.wait([printing], timeout=_EXIT_SECONDS_MAX)
        yield self._concluded(verdict, code)

    async def end(self) -> None:
        """Ends its processes, removes its folder, and gives its place back. Safe to call twice,
        and to cancel: it is done all the same."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        await asyncio.shield(self._ending)

    def end_soon(self) -> None:
        """The same, without waiting for it."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        self._ended = True
        try:
            if self._process is not None:
                await asyncio.to_thread(self._end_processes)
                await self._process.wait()
            await asyncio.to_thread(shutil.rmtree, self._folder, True)
        finally:
            self.on_end(self)

    def _end_processes(self) -> None:
        signs = TreeSigns(self._marker, self._folder / "spec.json", None)
        if not end_tree(signs):
            structlog.get_logger().error("a data check could not be ended", marker=self._marker)

    async def _spawn(self) -> asyncio.subprocess.Process:
        await asyncio.to_thread(self._write_spec)
        threads = cpu_threads_per_job(len(os.sched_getaffinity(0)), self._settings.data_checks_max)
        command = data_check_command(
            str(self._folder), self._order.rows_shown, self._marker, threads
        )
        self._require_wanted()
        self._process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**own_environment(os.environ, self._marker), **command.environment},
            start_new_session=True,
            limit=_LINE_BYTES_MAX,
        )
        if self._ended:  # it was ended between the two lines above
            await asyncio.to_thread(self._end_processes)
        return self._process

    def _require_wanted(self) -> None:
        if self._ended:
            raise Draining("the data check was ended")

    def _write_spec(self) -> None:
        """Blocking. Raises OSError."""
        make_folder(self._folder)
        places = {name: str(self._folder / name) for name in ("checkpoints", "staging", "cache")}
        document = {
            "job": "jobs/data-check",
            "attempt": 1,
            "spec": spec_json(self._order.spec),
            "resume": False,
            "paths": {"run": str(self._folder), **places},
            **host_json(self._settings, self._order.spec),
        }
        write_json(self._folder / "spec.json", document)

    async def _next(
        self, process: asyncio.subprocess.Process, deadline: float
    ) -> CheckDataResponse | None:
        """The next message; None at the end of the report."""
        assert process.stdout is not None
        left = deadline - asyncio.get_running_loop().time()
        try:
            line = await asyncio.wait_for(process.stdout.readline(), max(left, 0.0))
        except TimeoutError:
            seconds_max = self._settings.data_check_seconds_max
            raise CheckTimedOut(self._trainer, seconds_max) from None
        except ValueError:  # longer than any message may be
            raise CheckCrashed(self._trainer, "its report cannot be read") from None
        if not line.endswith(b"\n"):
            self._require_wanted()
            return None  # a half line is left by one that was killed
        try:
            return json_format.Parse(line, CheckDataResponse())
        except json_format.ParseError:
            raise CheckCrashed(self._trainer, "its report cannot be read") from None

    async def _keep_tail(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(_TAIL_BYTES_MAX):
            self._tail = (self._tail + data)[-_TAIL_BYTES_MAX:]

    async def _exit_code(self, process: asyncio.subprocess.Process) -> int:
        try:
            return await asyncio.wait_for(process.wait(), _EXIT_SECONDS_MAX)
        except TimeoutError:
            raise CheckCrashed(self._trainer, "its process does not end") from None

    def _concluded(self, verdict: CheckDataResponse | None, code: int) -> CheckDataResponse:
        """The verdict, with the failure that the process's output tells of. Raises CheckCrashed."""
        if code == 0 and verdict is not None:
            return verdict
        tail = self._tail.decode("utf-8", errors="replace")
        failure = _failure_of(code, tail)
        if verdict is None or failure.cause is Cause.CRASHED:
            log = structlog.get_logger()
            log.error("data check without a verdict", exit_code=code, printed=tail[-4000:])
            raise CheckCrashed(self._trainer, _last_words(code, failure))
        _add_failure(verdict.verdict, failure)
        return verdict


def _failure_of(code: int, tail: str) -> Failure:
    """As for a run that ends so."""
    ended = ExitRecord(None if code < 0 else code, -code if code < 0 else None, False)
    failure = classify(EndFacts(ended, tail=tail)).failure
    assert failure is not None  # nothing of a run that completed is given
    return failure


def _last_words(code: int, failure: Failure) -> str:
    if code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            memory = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{memory}"
    return f"its process ended with exit code {code}: {failure.message[:500]}"


def _add_failure(verdict: data_service_pb2.DataVerdict, failure: Failure) -> None:
    message = job_pb2.Failure(
        cause=job_pb2.FailureCause.Value(failure.cause),
        message=failure.message,
        hint=failure.hint,
        exception_type=failure.exception_type,
    )
    if verdict.accepted:
        verdict.accepted = False
        verdict.total_steps = 0
        verdict.failure.CopyFrom(message)
    else:
        verdict.more_failures.append(message)


def _refused(cause: Cause, backend: Backend, why: str) -> CheckDataResponse:
    failure = Failure(cause, f"backend {backend.short_name}: {why}", HINTS[cause])
    verdict = data_service_pb2.DataVerdict(accepted=True)
    _add_failure(verdict, failure)
    return CheckDataResponse(verdict=verdict)
