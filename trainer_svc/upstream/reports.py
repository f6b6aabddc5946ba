"""Telling the scheduler of each run what is due, promptly, until it has taken it.

What is due is read from the supervisor each time, so a restart, an outage or a
second registration only means that it is asked again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import structlog
from tunewright.v1 import registry_service_pb2 as pb

from svckit.crash import crash_point
from trainer_svc.domain.authority import Authority
from trainer_svc.domain.refusals import StaleAttempt
from trainer_svc.domain.runs import RunKey, RunPhase
from trainer_svc.supervisor.supervisor import Due, Supervisor
from trainer_svc.upstream.backoff import delays
from trainer_svc.upstream.registry import Outage, Refused, RegistryClient, Unknown

_RETRY_SECONDS = 0.5
_RETRY_SECONDS_MAX = 10.0


class Reports:
    """One task for each run that the scheduler has to hear of."""

    def __init__(
        self,
        supervisor: Supervisor,
        client: RegistryClient,
        identity: tuple[str, str],
        register_again: Callable[[], None],
    ) -> None:
        self._supervisor = supervisor
        self._client = client
        self._trainer, self._incarnation = identity
        self._register_again = register_again
        self.registered = asyncio.Event()
        """Set while a registration holds; nothing is said or published without."""
        self._tending: dict[RunKey, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Takes runs that moved, until it is cancelled."""
        try:
            while True:
                key = await self._supervisor.changes.get()
                task = self._tending.get(key)
                if task is None or task.done():
                    self._begin(key)
        finally:
            left = list(self._tending.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _begin(self, key: RunKey) -> None:
        task = asyncio.create_task(self._tend(key))
        self._tending[key] = task

        def forget(done: asyncio.Task[None]) -> None:
            if self._tending.get(key) is done:
                del self._tending[key]

        task.add_done_callback(forget)

    async def _tend(self, key: RunKey) -> None:
        """Says what is due of one run, until nothing is."""
        pauses = delays(_RETRY_SECONDS, _RETRY_SECONDS_MAX, random.Random())  # noqa: S311 # jitter
        while (due := self._supervisor.due(key)) is not Due.NOTHING:
            await self.registered.wait()
            try:
                await self._say(key, due)
            except StaleAttempt as stale:
                structlog.get_logger().warning("stale", run=str(key), why=stale.message)
                await self._supervisor.fence(key)
            except Unknown:
                self.registered.clear()
                self._register_again()
            except (Outage, OSError) as error:
                structlog.get_logger().info("not taken yet", run=str(key), why=str(error))
                await asyncio.sleep(next(pauses))
            except Exception:
                # A report must not be lost to a mistake of ours in one of them.
                structlog.get_logger().exception("report failed", run=str(key))
                await asyncio.sleep(_RETRY_SECONDS_MAX)

    async def _say(self, key: RunKey, due: Due) -> None:
        if due is Due.GRANT:
            await self._publish(key)
        elif due is Due.RUNNING:
            status = await self._supervisor.running_status(key)
            await self._report(key, status, RunPhase.RUNNING)
        else:
            phase = self._supervisor.run(key).phase
            await self._report(key, await self._supervisor.status(key), phase)

    async def _report(self, key: RunKey, status: pb.RunStatus, phase: RunPhase) -> None:
        request = pb.ReportRunRequest(
            trainer=self._trainer, incarnation=self._incarnation, run=status
        )
        try:
            answer = await self._client.report(request)
            self._check(answer.database_uuid, answer.generation)
        except Refused as refused:
            # The job is past this already; its end is said in the heartbeats all the same.
            structlog.get_logger().info("report refused", run=str(key), why=str(refused))
        self._supervisor.reported(key, phase)

    async def _publish(self, key: RunKey) -> None:
        crash_point("before_begin_publish")
        request = pb.BeginPublishRequest(
            trainer=self._trainer,
            incarnation=self._incarnation,
            job=key.job,
            attempt=key.attempt,
        )
        try:
            answer = await self._client.begin_publish(request)
        except Refused as refused:
            self._supervisor.refuse_publication(key, str(refused))
            return
        self._check(answer.database_uuid, answer.generation)
        await self._supervisor.publish(key)

    def _check(self, database_uuid: str, generation: int) -> None:
        """An older generation of the same database does not count."""
        bound = self._supervisor.authority
        if bound is not None and not bound.yields_to(Authority(database_uuid, generation)):
            raise Outage("answered by a scheduler that was replaced")
