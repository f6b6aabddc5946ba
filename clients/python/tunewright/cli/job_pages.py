"""A job as a row of a list and as a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunewright.cli import words
from tunewright.fields import enum_short_name
from tunewright.job import JobRecord, failure_text
from tunewright.v1 import job_pb2, spec_pb2
from tunewright.wire.times import moment, seconds_of

_TIMES = {
    "made": "create_time",
    "started": "start_time",
    "ended": "end_time",
    "to be removed": "delete_time",
}


def job_row(job: JobRecord) -> tuple[str, ...]:
    """Name, state, progress, loss, time, kind, model, recipe, and what a person should know."""
    progress = job.progress
    loss = words.number(progress.loss) if progress and progress.HasField("loss") else ""
    why = failure_text(job.failure) if job.failure else job.pending_reason
    return (
        job.id,
        job.state,
        words.progress_words(progress) if progress else "",
        loss,
        _when(job.proto, "create_time"),
        kind_word(job.spec.model_kind),
        Path(job.spec.model.name).name,
        job.recipe.removeprefix("recipes/"),
        why or job.display_name,
    )


def job_page(job: JobRecord) -> Iterator[tuple[str, str]]:
    """Everything on a job that a person asks first, as name and value."""
    proto = job.proto
    yield "job", job.name
    yield "name", job.display_name
    yield "state", job.state
    yield "waits for", job.pending_reason
    yield "failure", failure_text(job.failure) if job.failure else ""
    yield "result", job.output.path if job.output else ""
    yield "manifest", job.output.manifest_digest if job.output else ""
    yield from _progress_fields(job)
    yield "recipe", job.recipe
    yield "kind", kind_word(proto.spec.model_kind)
    yield "model", proto.spec.model.name
    yield "data", ", ".join(data.source for data in proto.spec.train_data)
    yield "eval data", ", ".join(data.source for data in proto.spec.eval_data)
    yield "hub commits", _revision_words(proto.progress)
    yield "output dir", proto.spec.output_dir
    yield "runs on", resources_words(proto.spec.resources)
    yield "priority", str(proto.priority) if proto.priority else ""
    yield "labels", ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items()))
    yield "retry of", proto.retry_of
    for told, field in _TIMES.items():
        yield told, _when(proto, field)
    for attempt in proto.attempts:
        yield f"attempt {attempt.attempt}", _attempt_words(attempt)


def kind_word(kind: int) -> str:
    """ "LLM"; what a record of an older service leaves out was one, too."""
    return enum_short_name(spec_pb2.ModelKind.DESCRIPTOR, kind or spec_pb2.MODEL_KIND_LLM)


def resources_words(resources: spec_pb2.Resources) -> str:
    """ "CPU", "2 GPUs of 24.0 GiB on trainers/a"."""
    kind = enum_short_name(spec_pb2.Accelerator.DESCRIPTOR, resources.accelerator)
    told = "CPU" if kind == "CPU" else f"{resources.gpu_count or 1} GPU"
    if resources.gpu_ids:
        told += f" ({', '.join(resources.gpu_ids)})"
    if resources.gpu_memory_bytes_min:
        told += f" of {words.size(resources.gpu_memory_bytes_min)}"
    return f"{told} on {resources.trainer}" if resources.trainer else told


def _progress_fields(job: JobRecord) -> Iterator[tuple[str, str]]:
    progress = job.progress
    if progress is None:
        return
    yield "progress", words.progress_words(progress)
    yield "loss", words.number(progress.loss) if progress.HasField("loss") else ""
    yield "eval loss", words.number(progress.eval_loss) if progress.HasField("eval_loss") else ""
    if progress.HasField("eta") and not job.is_terminal:
        yield "time left", words.span(seconds_of(progress.eta))


def _revision_words(progress: job_pb2.Progress) -> str:
    return ", ".join(f"{name}@{commit}" for name, commit in sorted(progress.revisions.items()))


def _attempt_words(attempt: job_pb2.Attempt) -> str:
    told = attempt.trainer.removeprefix("trainers/")
    if attempt.gpu_ids:
        told += f", GPU {', '.join(attempt.gpu_ids)}"
    return f"{told}: {failure_text(attempt.failure)}" if attempt.HasField("failure") else told


def _when(proto: job_pb2.Job, field: str) -> str:
    if not proto.HasField(field):  # type: ignore[arg-type] # one of Job's own time fields
        return ""
    return f"{moment(getattr(proto, field)).astimezone():%Y-%m-%d %H:%M:%S}"
