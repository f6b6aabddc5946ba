"""JobService: what people and programs do with jobs.

Each call: the request is checked, one hop to a thread runs the use case and
makes the answer's message, and whoever waits for commits is told.
"""

from collections.abc import Callable

from tunewright.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from scheduler_svc.application.jobs import Jobs
from scheduler_svc.application.lead import Lead
from scheduler_svc.converters.jobs import job_message
from scheduler_svc.domain.job import JobId, JobView
from scheduler_svc.domain.query import position_of
from scheduler_svc.hop import Hop
from scheduler_svc.rpc.changes import Changes
from scheduler_svc.rpc.context import Context
from scheduler_svc.rpc.job_requests import (
    ListQuestion,
    creation_of,
    edit_of,
    question_of,
    retry_of,
)
from scheduler_svc.rpc.labels import RecordLimits
from scheduler_svc.rpc.page_tokens import PageTokens
from scheduler_svc.rpc.requests import job_id_of
from svckit.crash import crash_point
from svckit.limits import PAGE_BYTES_MAX


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Converts, and makes one hop to the use cases.

    `stopping` is called with a job that was asked to cancel or pause, so that
    its trainer hears of it at once.
    """

    def __init__(
        self,
        jobs: Jobs,
        lead: Lead,
        hop: Hop,
        changes: Changes,
        stopping: Callable[[JobId], None],
        limits: RecordLimits,
        page_max: int,
    ) -> None:
        self._jobs = jobs
        self._lead = lead
        self._hop = hop
        self._changes = changes
        self._stopping = stopping
        self._limits = limits
        self._page_max = page_max

    async def CreateJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_pb2.Job:
        """Hands in a job, or only plans it."""
        new, options = creation_of(request, self._limits)
        if request.validate_only:
            return await self._hop(lambda: job_message(self._jobs.plan(new, options)))
        message = await self._changing(lambda: self._jobs.create(new, options))
        crash_point("scheduler.create.committed")
        return message

    async def StartJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.StartJobRequest, context: Context
    ) -> job_pb2.Job:
        """Puts a held job into the queue."""
        job_id = job_id_of(request.name)
        return await self._changing(lambda: self._jobs.start(job_id))

    async def GetJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.GetJobRequest, context: Context
    ) -> job_pb2.Job:
        """Reads one job."""
        job_id = job_id_of(request.name)
        return await self._hop(lambda: job_message(self._jobs.get(job_id)))

    async def ListJobs(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        """Reads a page of jobs."""
        tokens = PageTokens(self._lead.database_uuid)
        question = question_of(request, tokens, self._page_max)
        return await self._hop(self._page, question)

    async def UpdateJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.UpdateJobRequest, context: Context
    ) -> job_pb2.Job:
        """Changes priority, labels or display name."""
        job_id, edit = edit_of(request, self._limits)
        return await self._changing(lambda: self._jobs.update(job_id, edit))

    async def CancelJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.CancelJobRequest, context: Context
    ) -> job_pb2.Job:
        """Ends a job without a result."""
        job_id = job_id_of(request.name)
        message = await self._changing(lambda: self._jobs.cancel(job_id))
        self._stopping(job_id)
        return message

    async def PauseJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.PauseJobRequest, context: Context
    ) -> job_pb2.Job:
        """Stops a job so that it can go on later."""
        job_id = job_id_of(request.name)
        message = await self._changing(lambda: self._jobs.pause(job_id))
        self._stopping(job_id)
        return message

    async def ResumeJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.ResumeJobRequest, context: Context
    ) -> job_pb2.Job:
        """Puts a paused job back into the queue."""
        job_id = job_id_of(request.name)
        return await self._changing(lambda: self._jobs.resume(job_id))

    async def RetryJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.RetryJobRequest, context: Context
    ) -> job_pb2.Job:
        """Makes a new job like one that has ended."""
        retry = retry_of(request)
        return await self._changing(
            lambda: self._jobs.retry(retry.job_id, retry.output_dir, retry.request_id)
        )

    async def DeleteJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.DeleteJobRequest, context: Context
    ) -> job_pb2.Job:
        """Marks a job that has ended for removal."""
        job_id = job_id_of(request.name)
        return await self._changing(lambda: self._jobs.delete(job_id))

    async def AbandonJob(  # noqa: N802 - the name is the contract's
        self, request: job_service_pb2.AbandonJobRequest, context: Context
    ) -> job_pb2.Job:
        """Ends a job whose publishing host is lost for good."""
        job_id = job_id_of(request.name)
        return await self._changing(lambda: self._jobs.abandon(job_id))

    async def _changing(self, use_case: Callable[[], JobView]) -> job_pb2.Job:
        message = await self._hop(lambda: job_message(use_case()))
        self._changes.announce()
        return message

    def _page(self, question: ListQuestion) -> job_service_pb2.ListJobsResponse:
        """On a thread: a thousand messages take a while to make."""
        page = self._jobs.list(question.query)
        response = job_service_pb2.ListJobsResponse()
        size, after = 0, page.after
        for index, view in enumerate(page.jobs):
            message = job_message(view)
            size += message.ByteSize()
            if size > PAGE_BYTES_MAX and index > 0:
                after = position_of(page.jobs[index - 1].job, question.query.order)
                break
            response.jobs.append(message)
        if after is not None:
            response.next_page_token = question.token_after(after)
        return response
