"""MonitorService: from requests to the hub and the store, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tunewright.v1 import monitor_service_pb2 as pb
from tunewright.v1 import monitor_service_pb2_grpc

from monitor_svc.domain import entries as kinds
from monitor_svc.domain.ports import Hop, ReadStore
from monitor_svc.domain.records import JobPage
from monitor_svc.domain.selection import JobSelection, LabelSelection, ResumePoint
from monitor_svc.domain.thinning import thin
from monitor_svc.hub import Hub
from monitor_svc.rpc import requests
from monitor_svc.rpc.existence import Existence
from monitor_svc.rpc.series import SERIES, read_series

# A page ends before the wire's limit on a message, with room for what surrounds the entries.
_PAGE_BYTES_MAX = 3 * 1024 * 1024


class MonitorServicer(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Serves entries; refuses with InvalidRequest, JobNotFound and what the hub refuses with."""

    def __init__(self, hub: Hub, store: ReadStore, hop: Hop, existence: Existence) -> None:
        self._hub = hub
        self._store = store
        self._hop = hop
        self._existence = existence

    async def Subscribe(  # noqa: N802 # gRPC's name
        self, request: pb.SubscribeRequest, context: Any
    ) -> AsyncIterator[pb.SubscribeResponse]:
        """Streams entries, the stored ones first."""
        point = requests.check_subscribe(request)
        if request.jobs and not request.wait_for_job:
            await self._existence.require(*dict.fromkeys(request.jobs))
        selection = await self._selection(request, point)
        with self._hub.attach(selection, request.kinds) as subscription:
            # The caller learns that nothing will be missed from here on.
            await context.send_initial_metadata(())
            stream = self._hub.stream(subscription, until_terminal=request.until_terminal)
            async for delivery in stream:
                yield pb.SubscribeResponse(
                    entries=delivery.entries, resume_token=delivery.resume_token
                )

    async def StreamLogs(  # noqa: N802 # gRPC's name
        self, request: pb.StreamLogsRequest, context: Any
    ) -> AsyncIterator[pb.StreamLogsResponse]:
        """Streams what the training printed."""
        requests.check_logs(request)
        if not request.wait_for_job:
            await self._existence.require(request.job)
        after = request.after_sequence
        if not after and request.tail_lines:
            after = await self._hop(
                self._store.start_of_tail, request.job, kinds.LOG, request.tail_lines
            )
        selection = JobSelection({request.job: after})
        with self._hub.attach(selection, (kinds.LOG,)) as subscription:
            await context.send_initial_metadata(())
            stream = self._hub.stream(subscription, until_terminal=True, follow=request.follow)
            async for delivery in stream:
                yield pb.StreamLogsResponse(entries=delivery.entries)

    async def ListEntries(  # noqa: N802 # gRPC's name
        self, request: pb.ListEntriesRequest, context: Any
    ) -> pb.ListEntriesResponse:
        """A page of stored entries."""
        after = requests.check_list(request)
        await self._existence.require(request.job)
        size = request.page_size or requests.PAGE_DEFAULT
        page = await self._hop(self._store.read_job, request.job, after, size, tuple(request.kinds))
        return _listed(request.job, after, page)

    async def GetMetricSeries(  # noqa: N802 # gRPC's name
        self, request: pb.GetMetricSeriesRequest, context: Any
    ) -> pb.MetricSeries:
        """A metric over the steps."""
        requests.check_series(request, SERIES)
        await self._existence.require(request.job)
        points = await self._hop(read_series, self._store, request.job, request.metric)
        shown = thin(points, request.points_max or requests.POINTS_DEFAULT)
        return pb.MetricSeries(
            metric=request.metric,
            points=[pb.MetricPoint(step=step, value=value) for step, value in shown],
            points_total=len(points),
        )

    async def _selection(
        self, request: pb.SubscribeRequest, point: ResumePoint | None
    ) -> JobSelection | LabelSelection:
        from_now = request.start == pb.START_POSITION_NOW
        if not request.jobs:
            position = 0 if point is None else point.position or 0
            if from_now and point is None:
                position = await self._hop(self._store.position)
            return LabelSelection(dict(request.label_selector), position)
        taken = dict.fromkeys(request.jobs, 0)
        if from_now and not (request.after_sequence or point):
            heads = await self._hop(self._store.heads, tuple(taken))
            taken |= {job: head.last_sequence for job, head in heads.items()}
        if request.after_sequence:
            taken = dict.fromkeys(taken, request.after_sequence)
        if point is not None and point.sequences is not None:
            taken |= {job: s for job, s in point.sequences.items() if job in taken}
        return JobSelection(taken)


def _listed(job: str, after: int, page: JobPage) -> pb.ListEntriesResponse:
    """The page as it goes out; one that would be too large ends sooner."""
    answer = pb.ListEntriesResponse()
    missing_to = page.head.first_sequence - 1
    if missing_to > after:
        answer.entries.append(kinds.gap_entry(job, kinds.RETENTION, after + 1, missing_to))
    size_bytes, upto = 0, page.upto
    for stored in page.entries:
        size_bytes += stored.size_bytes
        if size_bytes > _PAGE_BYTES_MAX:
            upto = stored.sequence - 1
            break
        if stored.gap is not None:
            answer.entries.append(stored.gap)
        answer.entries.append(stored.entry)
    if upto < page.head.last_sequence:
        answer.next_page_token = requests.PageToken(job, upto).encode()
    return answer
