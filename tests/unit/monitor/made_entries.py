"""Entries as sources write them, for tests of the monitor."""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.v1 import feed_pb2, job_pb2


def metrics(job: str, step: int, loss: float = 1.0, attempt: int = 1) -> feed_pb2.Entry:
    """A logging step."""
    return feed_pb2.Entry(
        job=job, attempt=attempt, train_metrics=feed_pb2.TrainMetrics(step=step, loss=loss)
    )


def line(job: str, text: str, attempt: int = 1) -> feed_pb2.Entry:
    """A printed line."""
    return feed_pb2.Entry(job=job, attempt=attempt, log_line=feed_pb2.LogLine(text=text))


def event(job: str, kind: str = "SOMETHING") -> feed_pb2.Entry:
    """Something worth knowing."""
    return feed_pb2.Entry(job=job, event=feed_pb2.Event(severity=feed_pb2.SEVERITY_INFO, type=kind))


def system_sample(job: str) -> feed_pb2.Entry:
    """What the host looked like."""
    return feed_pb2.Entry(job=job, system_sample=feed_pb2.SystemSample(cpu_percent=50.0))


def state(
    job: str,
    to: job_pb2.JobState.ValueType,
    before: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_RUNNING,
    final: list[feed_pb2.FeedCursor] | None = None,
    trainer: str = "",
) -> feed_pb2.Entry:
    """A move; `final` are the cursors at which the attempt's streams end."""
    change = feed_pb2.StateChange(to=to, final_cursors=final or [], trainer=trainer)
    setattr(change, "from", before)
    return feed_pb2.Entry(job=job, attempt=1, state_change=change)


def created(job: str) -> feed_pb2.Entry:
    """A job's first entry."""
    return state(job, job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_UNSPECIFIED)


def succeeded(job: str, *final: tuple[str, str, int]) -> feed_pb2.Entry:
    """A job's end, with (source, stream, position) of its streams."""
    cursors = [
        feed_pb2.FeedCursor(source=source, stream=stream, position=position)
        for source, stream, position in final
    ]
    return state(job, job_pb2.JOB_STATE_SUCCEEDED, final=cursors)


def sequences(entries: Iterable[feed_pb2.Entry]) -> list[int]:
    """The sequences of entries that have one."""
    return [entry.sequence for entry in entries if entry.sequence]


def payloads(entries: Iterable[feed_pb2.Entry]) -> list[str]:
    """What kinds of payload there are, in order."""
    return [entry.WhichOneof("payload") or "" for entry in entries]
