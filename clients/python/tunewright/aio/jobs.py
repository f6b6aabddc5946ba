"""Jobs, for the asyncio client: the twin of `tunewright.jobs`.

Thin over `tunewright.requests` and `tunewright.transport`; holds no rules of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Unpack

from google.protobuf.message import Message

from tunewright import requests, rpcs
from tunewright.aio.stream import AsyncLines, AsyncStream, AsyncWatch
from tunewright.aio.transport import AsyncTransport
from tunewright.errors import Unavailable
from tunewright.job import POLLING, JobRecord, wait_timeout
from tunewright.receipts import newest_receipts, receipt_page
from tunewright.requests import JobArguments, job_name, new_request_id
from tunewright.retry import Reconnect
from tunewright.rpcs import Rpc
from tunewright.subscription import (
    EntrySubscription,
    LogSubscription,
    OnInterruption,
    StreamState,
)
from tunewright.v1 import feed_pb2, job_pb2, job_service_pb2, monitor_service_pb2


class AsyncJob(JobRecord):
    """A job: its record as of the last answer, and what can be done with it.

    Each verb updates the record in place and returns the job.
    """

    def __init__(self, transport: AsyncTransport, proto: job_pb2.Job) -> None:
        super().__init__(proto)
        self._transport = transport
        self._jobs = AsyncJobs(transport)

    async def refresh(self) -> AsyncJob:
        """Reads the record again."""
        return self._now(await self._jobs.get(self.name))

    async def start(self) -> AsyncJob:
        """Puts a held job into the queue. Raises ForbiddenMove."""
        return self._now(await self._jobs.start(self.name))

    async def cancel(self) -> AsyncJob:
        """Ends it without a result. CANCELLED is said once all its processes are gone."""
        return self._now(await self._jobs.cancel(self.name))

    async def pause(self) -> AsyncJob:
        """Saves and stops, to go on later. Raises ForbiddenMove."""
        return self._now(await self._jobs.pause(self.name))

    async def resume(self) -> AsyncJob:
        """Puts a paused job back into the queue. Raises ForbiddenMove."""
        return self._now(await self._jobs.resume(self.name))

    async def retry(self, *, output_dir: str = "") -> AsyncJob:
        """A new job with the same spec; this one stays as it is."""
        return await self._jobs.retry(self.name, output_dir=output_dir)

    async def update(
        self,
        *,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        display_name: str | None = None,
    ) -> AsyncJob:
        """Changes what is given; labels are replaced as a whole."""
        changed = await self._jobs.update(
            self.name, priority=priority, labels=labels, display_name=display_name
        )
        return self._now(changed)

    async def delete(self) -> AsyncJob:
        """Marks an ended job for removal; its published result stays."""
        return self._now(await self._jobs.delete(self.name))

    def watch(
        self,
        *,
        after_sequence: int = 0,
        from_now: bool = False,
        kinds: Sequence[str | int] = (),
        until_terminal: bool = True,
        on_interruption: OnInterruption | None = None,
        give_up_seconds: float | None = None,
    ) -> AsyncWatch:
        """Everything that happened and happens in this job, entry by entry, no gap, none twice.

        Reconnects by itself and goes on where it stopped. Ends after the
        terminal entry. Use it in a `with` block, or close it.

        Args:
            after_sequence: the last sequence you have; 0 starts with the first entry.
            from_now: skip what is past.
            kinds: only these ("state", "metrics", "log", "event", "checkpoint", "system").
            until_terminal: False goes on after the job's end.
            on_interruption: told of each break, with the seconds until the next try.
            give_up_seconds: raise after so long without a connection; None never does.
        """
        subscription = EntrySubscription(
            [self.name],
            after_sequence=after_sequence,
            from_now=from_now,
            kinds=kinds,
            until_terminal=until_terminal,
            # The scheduler gave us this job: if the monitor has not heard of it, it will.
            wait_for_job=True,
        )
        state = StreamState(subscription, Reconnect(self._transport.backoff, give_up_seconds))
        return AsyncWatch(self._transport, subscription, state, on_interruption)

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 # the same word as the synchronous twin
        *,
        raise_on_failure: bool = False,
    ) -> AsyncJob:
        """Waits for the end and returns the job; asks the scheduler, who owns the state.

        A scheduler that is away for a while is waited for.

        Raises:
            WaitTimeout: after `timeout` seconds; the job goes on.
            JobFailed, JobCancelled: with raise_on_failure.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = 0
        while not await self._ended():
            asked += 1
            delay = POLLING.delay(asked)
            left = delay if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise wait_timeout(self, timeout)
            await asyncio.sleep(min(delay, left))
        if raise_on_failure:
            self.raise_for_state()
        return self

    def logs(self, *, follow: bool = False, tail: int = 0) -> AsyncLines:
        """What the training process printed, line by line.

        Args:
            follow: go on until the job has ended.
            tail: only the last so many lines of what there is; 0 means all.
        """
        state = StreamState(
            LogSubscription(self.name, follow=follow, tail=tail, wait_for_job=follow),
            Reconnect(self._transport.backoff, None if follow else 30.0),
        )
        return AsyncLines(AsyncStream(self._transport, state))

    async def metrics(
        self, metric: str, *, points_max: int = 0
    ) -> monitor_service_pb2.MetricSeries:
        """One metric over the steps ("loss", "eval_loss", "learning_rate", ...), thinned out."""
        request = monitor_service_pb2.GetMetricSeriesRequest(
            job=self.name, metric=metric, points_max=points_max
        )
        return await self._transport.call(rpcs.GET_METRIC_SERIES, request)

    async def receipts(self) -> Sequence[feed_pb2.DataPrepared]:
        """What became of the rows of each data set, as of the newest attempt that has read it.

        Empty until the data are prepared. The monitor has them; the record does not.
        """
        found: list[feed_pb2.Entry] = []
        page = await self._transport.call(rpcs.LIST_ENTRIES, receipt_page(self.name))
        found.extend(page.entries)
        while page.next_page_token:
            request = receipt_page(self.name, page.next_page_token)
            page = await self._transport.call(rpcs.LIST_ENTRIES, request)
            found.extend(page.entries)
        return newest_receipts(found)

    async def _ended(self) -> bool:
        try:
            return (await self.refresh()).is_terminal
        except Unavailable:
            return False

    def _now(self, other: AsyncJob) -> AsyncJob:
        self.proto = other.proto
        return self


class AsyncJobs:
    """`client.jobs`. Names may be given with or without "jobs/"."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, **arguments: Unpack[JobArguments]) -> AsyncJob:
        """Hands in a job; all arguments are in `tunewright.requests.JobArguments`.

        Safe against lost answers: one request_id spans all retries of the call.

        Raises:
            InvalidRequest: `violations` names every bad field.
            AlreadyExists: the output folder, job_id or request_id is taken.
            ResourceExhausted: the queue is full.
        """
        request = requests.create_job(arguments, new_request_id())
        return await self._job(rpcs.CREATE_JOB, request)

    async def get(self, name: str) -> AsyncJob:
        """One job. Raises NotFound."""
        return await self._job(rpcs.GET_JOB, job_service_pb2.GetJobRequest(name=job_name(name)))

    async def list(
        self,
        *,
        filter: str = "",  # noqa: A002 # AIP-160's own word
        order_by: str = "",
        page_size: int = 0,
        show_deleted: bool = False,
    ) -> AsyncIterator[AsyncJob]:
        """Jobs, newest first unless `order_by` says otherwise; walks the pages.

        Args:
            filter: AIP-160, e.g. 'state = RUNNING AND labels.team = "a"'.
            order_by: e.g. "priority desc, create_time".
            page_size: jobs fetched at once, 1 to 1000; 0 means 100.
            show_deleted: those marked for removal as well.
        """
        request = job_service_pb2.ListJobsRequest(
            filter=filter, order_by=order_by, page_size=page_size, show_deleted=show_deleted
        )
        while True:
            page = await self._transport.call(rpcs.LIST_JOBS, request)
            for proto in page.jobs:
                yield AsyncJob(self._transport, proto)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def start(self, name: str) -> AsyncJob:
        """See `AsyncJob.start`."""
        return await self._job(rpcs.START_JOB, job_service_pb2.StartJobRequest(name=job_name(name)))

    async def cancel(self, name: str) -> AsyncJob:
        """See `AsyncJob.cancel`."""
        return await self._job(
            rpcs.CANCEL_JOB, job_service_pb2.CancelJobRequest(name=job_name(name))
        )

    async def pause(self, name: str) -> AsyncJob:
        """See `AsyncJob.pause`."""
        return await self._job(rpcs.PAUSE_JOB, job_service_pb2.PauseJobRequest(name=job_name(name)))

    async def resume(self, name: str) -> AsyncJob:
        """See `AsyncJob.resume`."""
        return await self._job(
            rpcs.RESUME_JOB, job_service_pb2.ResumeJobRequest(name=job_name(name))
        )

    async def retry(self, name: str, *, output_dir: str = "", request_id: str = "") -> AsyncJob:
        """Makes a new job with the spec of one that has ended."""
        request = job_service_pb2.RetryJobRequest(
            name=job_name(name), output_dir=output_dir, request_id=request_id or new_request_id()
        )
        return await self._job(rpcs.RETRY_JOB, request)

    async def update(
        self,
        name: str,
        *,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        display_name: str | None = None,
    ) -> AsyncJob:
        """See `AsyncJob.update`."""
        request = requests.update_job(
            name, priority=priority, labels=labels, display_name=display_name
        )
        return await self._job(rpcs.UPDATE_JOB, request)

    async def delete(self, name: str) -> AsyncJob:
        """See `AsyncJob.delete`."""
        return await self._job(
            rpcs.DELETE_JOB, job_service_pb2.DeleteJobRequest(name=job_name(name))
        )

    async def abandon(self, name: str) -> AsyncJob:
        """See `Jobs.abandon`."""
        return await self._job(
            rpcs.ABANDON_JOB, job_service_pb2.AbandonJobRequest(name=job_name(name))
        )

    async def _job(self, rpc: Rpc[job_pb2.Job], request: Message) -> AsyncJob:
        return AsyncJob(self._transport, await self._transport.call(rpc, request))
