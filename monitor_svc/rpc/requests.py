"""What callers of MonitorService may ask for. Each bad request names all its bad fields."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from tunewright.v1 import monitor_service_pb2
from tunewright.wire import names

from monitor_svc.domain.selection import ResumePoint
from svckit.refusal import InvalidRequest, Violation

JOBS_MAX = 1000
LABELS_MAX = 64
PAGE_MAX = 1000
PAGE_DEFAULT = 100
POINTS_MIN = 2
POINTS_MAX = 10_000
POINTS_DEFAULT = 500

_KINDS = frozenset(monitor_service_pb2.EntryKind.values()) - {
    monitor_service_pb2.ENTRY_KIND_UNSPECIFIED
}


class Checks:
    """Collects what is wrong with a request."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, field: str, description: str) -> None:
        """Notes a bad field."""
        self._violations.append(Violation(field, description))

    def finish(self) -> None:
        """Raises InvalidRequest if anything was noted."""
        if self._violations:
            raise InvalidRequest.of(self._violations)

    def job(self, field: str, name: str) -> None:
        """It is the name of a job."""
        try:
            names.job_id(name)
        except ValueError as error:
            self.add(field, str(error))

    def between(self, field: str, value: int, least: int, greatest: int) -> None:
        """It is 0, or in the range."""
        if value != 0 and not least <= value <= greatest:
            self.add(field, f"must be {least} to {greatest}, or 0 for the default; got {value}")

    def not_negative(self, field: str, value: int) -> None:
        """It is 0 or more."""
        if value < 0:
            self.add(field, f"must not be negative, got {value}")

    def kinds(self, kinds: Iterable[int]) -> None:
        """They are kinds of this contract."""
        for index, kind in enumerate(kinds):
            if kind not in _KINDS:
                self.add(f"kinds[{index}]", f"there is no kind {kind}")


@dataclass(frozen=True)
class PageToken:
    """Where a page begins: after this sequence."""

    job: str
    after_sequence: int

    def encode(self) -> str:
        """As an opaque token."""
        text = f"{self.after_sequence} {self.job}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> PageToken:
        """From a token; ValueError if it is none of ours."""
        try:
            text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
            sequence, _, job = text.partition(" ")
            return cls(job, int(sequence))
        except (binascii.Error, ValueError):
            raise ValueError("not a page token") from None


def check_subscribe(request: monitor_service_pb2.SubscribeRequest) -> ResumePoint | None:
    """Where the request resumes, if it carries a token."""
    checks = Checks()
    if len(request.jobs) > JOBS_MAX:
        checks.add("jobs", f"{JOBS_MAX} at most, got {len(request.jobs)}")
    else:
        for index, job in enumerate(request.jobs):
            checks.job(f"jobs[{index}]", job)
    if len(request.label_selector) > LABELS_MAX:
        checks.add("label_selector", f"{LABELS_MAX} labels at most")
    if request.jobs and request.label_selector:
        checks.add("label_selector", "cannot be given together with jobs")
    if request.until_terminal and not request.jobs:
        checks.add("until_terminal", "needs jobs: by label, there may always come another one")
    if request.wait_for_job and not request.jobs:
        checks.add("wait_for_job", "needs jobs: by label, new jobs are always waited for")
    checks.not_negative("after_sequence", request.after_sequence)
    if request.after_sequence > 0 and len(request.jobs) != 1:
        checks.add("after_sequence", "is for one job; several go on with resume_token")
    if request.start not in monitor_service_pb2.StartPosition.values():
        checks.add("start", f"there is no start {request.start}")
    checks.kinds(request.kinds)
    point = _resume_point(checks, request)
    checks.finish()
    return point


def check_list(request: monitor_service_pb2.ListEntriesRequest) -> int:
    """The sequence that the page begins after."""
    checks = Checks()
    checks.job("job", request.job)
    checks.between("page_size", request.page_size, 1, PAGE_MAX)
    checks.not_negative("after_sequence", request.after_sequence)
    checks.kinds(request.kinds)
    after = request.after_sequence
    if request.page_token:
        try:
            token = PageToken.decode(request.page_token)
            if token.job != request.job:
                raise ValueError("a page token of another job")
            after = max(after, token.after_sequence)
        except ValueError as error:
            checks.add("page_token", str(error))
    checks.finish()
    return after


def check_logs(request: monitor_service_pb2.StreamLogsRequest) -> None:
    """Refuses what is wrong."""
    checks = Checks()
    checks.job("job", request.job)
    checks.not_negative("tail_lines", request.tail_lines)
    if request.wait_for_job and not request.follow:
        checks.add("wait_for_job", "needs follow")
    checks.not_negative("after_sequence", request.after_sequence)
    checks.finish()


def check_series(request: monitor_service_pb2.GetMetricSeriesRequest, known: Iterable[str]) -> None:
    """Refuses what is wrong; `known` are the metrics that there are."""
    checks = Checks()
    checks.job("job", request.job)
    checks.between("points_max", request.points_max, POINTS_MIN, POINTS_MAX)
    known = sorted(known)
    if request.metric not in known:
        checks.add("metric", f"must be one of {', '.join(known)}; got {request.metric[:80]!r}")
    checks.finish()


def _resume_point(
    checks: Checks, request: monitor_service_pb2.SubscribeRequest
) -> ResumePoint | None:
    if not request.resume_token:
        return None
    try:
        point = ResumePoint.decode(request.resume_token)
    except ValueError as error:
        checks.add("resume_token", str(error))
        return None
    if (point.position is None) != bool(request.jobs):
        asked = "jobs by name" if request.jobs else "jobs by label"
        checks.add("resume_token", f"comes from another subscription than {asked}")
    return point
