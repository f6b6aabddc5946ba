"""Labels of jobs, which the feeds do not carry: asked of the scheduler, kept in the store.

New jobs are asked for before their first entry is stored; what could not be
had then is asked again and again. A scheduler that is away delays labels and
nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import grpc
import grpc.aio
import structlog
from tunewright.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from monitor_svc.domain.admission import changes_labels
from monitor_svc.domain.entries import Entry
from monitor_svc.domain.ports import Hop, WriteStore
from monitor_svc.domain.records import Labels
from svckit.refusal import Refusal

log = structlog.get_logger()

_CALL_TIMEOUT_SECONDS = 2.0
_CALLS_AT_ONCE = 16
_JOBS_AT_ONCE = 100
# After a failed call the feed is not held up by further ones for this long.
_PAUSE_SECONDS = 5.0


class LabelReader:
    """Asks the scheduler for labels."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        store: WriteStore,
        hop: Hop,
        catch_up: Callable[[], Awaitable[None]],
        refresh_seconds: float,
    ) -> None:
        self._stub = job_service_pb2_grpc.JobServiceStub(channel)
        self._store = store
        self._hop = hop
        self._catch_up = catch_up
        self._refresh_seconds = refresh_seconds
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._paused_until = 0.0

    async def of_entries(self, entries: Iterable[Entry]) -> dict[str, Labels]:
        """Labels of the jobs that begin, or change their labels, in these entries."""
        jobs = {entry.job for entry in entries if _begins(entry) or changes_labels(entry)}
        if not jobs or time.monotonic() < self._paused_until:
            return {}
        return await self._ask(jobs)

    async def run(self) -> None:
        """Makes good what is not known, or no longer right. Runs until cancelled."""
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self._refresh()
            except Refusal as refusal:
                log.warning("cannot refresh labels", reason=refusal.message)

    async def _refresh(self) -> None:
        jobs = await self._hop(self._store.jobs_without_labels, _JOBS_AT_ONCE)
        labels = await self._ask(jobs)
        for job, known in labels.items():
            await self._hop(self._store.set_labels, job, known)
        if labels:
            await self._catch_up()

    async def _ask(self, jobs: Iterable[str]) -> dict[str, Labels]:
        names = list(jobs)
        answers = await asyncio.gather(*(self._labels_of(name) for name in names))
        return {
            name: labels for name, labels in zip(names, answers, strict=True) if labels is not None
        }

    async def _labels_of(self, job: str) -> Mapping[str, str] | None:
        async with self._calls:
            try:
                request = job_service_pb2.GetJobRequest(name=job)
                answer: job_pb2.Job = await self._stub.GetJob(
                    request, timeout=_CALL_TIMEOUT_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return {}  # deleted: nobody will ever label it
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
                return None
            return dict(answer.labels)


def _begins(entry: Entry) -> bool:
    if entry.WhichOneof("payload") != "state_change":
        return False
    # "from" is a keyword of Python.
    return bool(getattr(entry.state_change, "from") == job_pb2.JOB_STATE_UNSPECIFIED)
