"""Which jobs exist: asked of the scheduler. Never raises; what cannot be known is None."""

from __future__ import annotations

import grpc
import grpc.aio
from tunewright.v1 import job_service_pb2, job_service_pb2_grpc
from tunewright.wire.reasons import Reason
from tunewright.wire.status import rich_error


class SchedulerJobs:
    """The scheduler's jobs; see monitor_svc.domain.ports.JobDirectory."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = job_service_pb2_grpc.JobServiceStub(channel)

    async def knows(self, job: str, timeout_seconds: float) -> bool | None:
        """Asks once. Only the scheduler's own word counts as "no"."""
        try:
            await self._stub.GetJob(
                job_service_pb2.GetJobRequest(name=job), timeout=timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            return False if rich_error(error).reason == Reason.JOB_NOT_FOUND else None
        return True
