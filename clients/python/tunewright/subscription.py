"""What a stream has seen, and where it goes on: the sans-I/O half of every watch.

Owns the rules "no entry twice, none left out, end after the terminal entry".
Does no I/O; `StreamState` is driven by a sync and an async stream alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from tunewright import rpcs
from tunewright.errors import ApiError
from tunewright.fields import Problems, enum_number
from tunewright.requests import job_name
from tunewright.retry import Reconnect
from tunewright.rpcs import Rpc
from tunewright.v1 import feed_pb2, job_pb2, monitor_service_pb2

Item = TypeVar("Item")
ItemOut = TypeVar("ItemOut", covariant=True)

TERMINAL_STATES = frozenset(
    {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}
)

# Told of each interruption: what failed, and the seconds until the next try.
OnInterruption = Callable[[ApiError, float], None]


class Subscription(Protocol[ItemOut]):
    """One kind of stream: what to ask for, given what has come."""

    @property
    def rpc(self) -> Rpc[Message]:
        """The call that opens it."""

    def request(self) -> Message:
        """The request that goes on where the stream stopped."""

    def accept(self, answer: Any) -> Sequence[ItemOut]:
        """What is new in an answer."""

    @property
    def complete(self) -> bool:
        """Nothing more can come."""

    @property
    def ends_by_itself(self) -> bool:
        """The service ends it with OK once everything was sent."""


class EntrySubscription:
    """Entries of one job by sequence, or of several by resume token."""

    rpc: Rpc[Message] = rpcs.SUBSCRIBE

    def __init__(
        self,
        jobs: Iterable[str] = (),
        *,
        labels: Mapping[str, str] | None = None,
        after_sequence: int = 0,
        resume_token: str = "",
        from_now: bool = False,
        kinds: Sequence[str | int] = (),
        until_terminal: bool = True,
        wait_for_job: bool = False,
    ) -> None:
        self._jobs = [job_name(job) for job in jobs]
        self._wait_for_job = wait_for_job and bool(self._jobs)
        self._labels = dict(labels or {})
        self._kinds = _kind_numbers(kinds)
        self._until_terminal = until_terminal and bool(self._jobs)
        self._from_now = from_now
        self._open = set(self._jobs)
        self._single = self._jobs[0] if len(self._jobs) == 1 else None
        self._sequences = {self._single: after_sequence} if self._single else {}
        self.resume_token = resume_token

    @property
    def sequences(self) -> Mapping[str, int]:
        """The last sequence seen, by job name."""
        return dict(self._sequences)

    @property
    def last_sequence(self) -> int:
        """The last sequence seen; the greatest where there are several jobs."""
        return max(self._sequences.values(), default=0)

    def request(self) -> monitor_service_pb2.SubscribeRequest:
        """Asks for what follows the last entry that was handed out."""
        now = self._from_now and not (self.last_sequence or self.resume_token)
        return monitor_service_pb2.SubscribeRequest(
            jobs=self._jobs,
            label_selector=self._labels,
            # One job goes on by sequence, which any monitor understands, also
            # one that has been rebuilt; only several need the opaque token.
            after_sequence=self.last_sequence if self._single else 0,
            resume_token="" if self._single and self.last_sequence else self.resume_token,
            start=(
                monitor_service_pb2.START_POSITION_NOW
                if now
                else monitor_service_pb2.START_POSITION_UNSPECIFIED
            ),
            kinds=self._kinds,
            until_terminal=self._until_terminal,
            wait_for_job=self._wait_for_job,
        )

    def accept(self, answer: monitor_service_pb2.SubscribeResponse) -> list[feed_pb2.Entry]:
        """New entries: keepalives and what came before are dropped, gaps are kept."""
        fresh = [entry for entry in answer.entries if self._is_new(entry)]
        self.resume_token = answer.resume_token or self.resume_token
        return fresh

    @property
    def complete(self) -> bool:
        """Every job that was asked for has come to its end."""
        return self._until_terminal and not self._open

    @property
    def ends_by_itself(self) -> bool:
        """True where the service was asked to end it."""
        return self._until_terminal

    def _is_new(self, entry: feed_pb2.Entry) -> bool:
        payload = entry.WhichOneof("payload")
        if payload == "keepalive":
            return False
        if payload == "gap":
            # What is missing will not come: the next request must not ask for it again.
            if entry.gap.last_sequence:
                self._advance(entry.job, entry.gap.last_sequence)
            return True
        if entry.sequence <= self._sequences.get(entry.job, 0):
            return False
        self._advance(entry.job, entry.sequence)
        if payload == "state_change" and entry.state_change.to in TERMINAL_STATES:
            self._open.discard(entry.job)
        return True

    def _advance(self, job: str, sequence: int) -> None:
        self._sequences[job] = max(self._sequences.get(job, 0), sequence)


class LogSubscription:
    """The printed lines of one job."""

    rpc: Rpc[Message] = rpcs.STREAM_LOGS
    ends_by_itself = True
    complete = False

    def __init__(
        self, job: str, *, follow: bool = False, tail: int = 0, wait_for_job: bool = False
    ) -> None:
        self._job = job_name(job)
        self._wait_for_job = wait_for_job
        self._follow = follow
        self._tail = tail
        self._last_sequence = 0

    def request(self) -> monitor_service_pb2.StreamLogsRequest:
        """Asks for the lines after the last one that was handed out."""
        return monitor_service_pb2.StreamLogsRequest(
            job=self._job,
            follow=self._follow,
            tail_lines=0 if self._last_sequence else self._tail,
            after_sequence=self._last_sequence,
            wait_for_job=self._wait_for_job,
        )

    def accept(self, answer: monitor_service_pb2.StreamLogsResponse) -> list[feed_pb2.Entry]:
        """Lines that are new, and gaps."""
        fresh = []
        for entry in answer.entries:
            if entry.HasField("gap"):
                fresh.append(entry)
            elif entry.HasField("log_line") and entry.sequence > self._last_sequence:
                self._last_sequence = entry.sequence
                fresh.append(entry)
        return fresh


class StreamState(Generic[Item]):
    """Entries that wait to be taken, and what to do when a stream breaks off."""

    def __init__(self, subscription: Subscription[Item], reconnect: Reconnect) -> None:
        self.subscription = subscription
        self.pending: deque[Item] = deque()
        self._reconnect = reconnect
        self._ended = False

    @property
    def finished(self) -> bool:
        """Nothing waits and nothing more will come."""
        return not self.pending and (self._ended or self.subscription.complete)

    def received(self, answer: Message) -> None:
        """An answer came."""
        self._reconnect.succeeded()
        self.pending.extend(self.subscription.accept(answer))

    def broke(self, failure: ApiError | None, now: float) -> float | None:
        """The stream ended: seconds until it is opened again; None if that was the end.

        `failure` is None where the service closed it with OK. Raises `failure`
        where trying again is of no use.
        """
        if failure is None and self.subscription.ends_by_itself:
            self._ended = True
            return None
        cut = failure or ApiError("the service closed the stream", code="CANCELLED")
        delay = self._reconnect.delay_after(cut, now)
        if delay is None:
            raise cut from None
        return delay


def line_text(entry: feed_pb2.Entry) -> str:
    """A printed line; a gap says what is missing."""
    if entry.HasField("gap"):
        gap = entry.gap
        return f"[lines are missing: {gap.reason} {gap.first_sequence}-{gap.last_sequence}]"
    return entry.log_line.text


def _kind_numbers(kinds: Sequence[str | int]) -> list[monitor_service_pb2.EntryKind.ValueType]:
    problems = Problems()
    numbers: list[monitor_service_pb2.EntryKind.ValueType] = []
    for index, kind in enumerate([kinds] if isinstance(kinds, str) else kinds):
        try:
            number = enum_number(monitor_service_pb2.EntryKind.DESCRIPTOR, kind)
            numbers.append(monitor_service_pb2.EntryKind.ValueType(number))
        except ValueError as error:
            problems.add(f"kinds[{index}]", str(error))
    problems.raise_if_any()
    return numbers
