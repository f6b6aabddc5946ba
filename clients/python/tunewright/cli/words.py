"""Records and entries in words: one line each, for people.

Pure. No colour and no layout here; the views add them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tunewright.fields import enum_short_name
from tunewright.job import failure_text
from tunewright.v1 import feed_pb2, job_pb2
from tunewright.wire.times import seconds_of


def entry_line(entry: feed_pb2.Entry) -> str:
    """What happened, in one line."""
    payload = entry.WhichOneof("payload")
    if payload is None:  # a kind that a newer service writes
        return "(an entry that this version does not know)"
    return _LINES[payload](getattr(entry, payload))


def state_word(state: int) -> str:
    """ "RUNNING"."""
    return enum_short_name(job_pb2.JobState.DESCRIPTOR, state)


def progress_words(progress: job_pb2.Progress) -> str:
    """ "step 40/64 (62 %)"; empty before the first."""
    if not progress.total_steps:
        return progress.phase
    share = 100 * progress.step // progress.total_steps
    return f"{progress.step}/{progress.total_steps} ({share} %)"


def number(value: float) -> str:
    """Four significant digits: "2.714", "0.0001963", "2e-06"."""
    return f"{value:.4g}"


def count(value: float) -> str:
    """ "1,234"."""
    return f"{value:,.0f}"


def size(value: int) -> str:
    """ "1.5 GiB"."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def span(seconds: float) -> str:
    """ "42 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = max(round(seconds), 0)
    for unit, below, length, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60)):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // part} {below}"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def command_lines(argv: Iterable[str]) -> str:
    """A command as a shell takes it, a flag with its values on each line."""
    lines = [""]
    for word in argv:
        if word.startswith("--"):
            lines.append("   ")
        lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines).lstrip()


def metrics_words(metrics: feed_pb2.TrainMetrics) -> str:
    """Loss, learning rate, speed and time left, as far as they are known."""
    parts = []
    if metrics.HasField("loss"):
        parts.append(f"loss {number(metrics.loss)}")
    if metrics.HasField("learning_rate"):
        parts.append(f"lr {number(metrics.learning_rate)}")
    if metrics.HasField("tokens_per_second"):
        parts.append(f"{count(metrics.tokens_per_second)} tokens/s")
    if metrics.HasField("eta"):
        parts.append(f"{span(seconds_of(metrics.eta))} left")
    return "  ".join(parts)


def _state(change: feed_pb2.StateChange) -> str:
    told = state_word(change.to)
    if change.trainer:
        told += f" on {change.trainer.removeprefix('trainers/')}"
    if change.HasField("failure"):
        return f"{told}: {failure_text(change.failure)}"
    if change.HasField("output"):
        return f"{told}: {change.output.path}"
    return f"{told}: {change.reason}" if change.reason else told


def _train(metrics: feed_pb2.TrainMetrics) -> str:
    return f"step {metrics.step}/{metrics.total_steps}  {metrics_words(metrics)}".rstrip()


def _evaluation(metrics: feed_pb2.EvalMetrics) -> str:
    told = f"evaluated at step {metrics.step}: loss {number(metrics.loss)}"
    if metrics.HasField("token_accuracy"):
        told += f", {100 * metrics.token_accuracy:.1f} % of tokens right"
    return told


def _event(event: feed_pb2.Event) -> str:
    mark = {feed_pb2.SEVERITY_WARNING: "warning: ", feed_pb2.SEVERITY_ERROR: "error: "}
    told = event.message
    if not told or told.startswith("/"):  # a path alone does not say what happened to it
        told = f"{event.type.lower().replace('_', ' ')} {told}".rstrip()
    return mark.get(event.severity, "") + told


def _checkpoint(saved: feed_pb2.CheckpointSaved) -> str:
    kind = "record of the start" if saved.record_only else f"checkpoint at step {saved.step}"
    return f"{kind} saved, {size(saved.size_bytes)}"


def _prepared(data: feed_pb2.DataPrepared) -> str:
    told = f"{data.part} data: {count(data.rows_kept)} of {count(data.rows_read)} rows kept"
    if data.dropped:
        reasons = (f"{count(one.count)} {one.reason.replace('_', ' ')}" for one in data.dropped)
        told += f" (dropped: {', '.join(reasons)})"
    if data.rows_truncated:
        told += f", {count(data.rows_truncated)} cut short"
    return f"{told}, {count(data.tokens)} tokens"


def _system(sample: feed_pb2.SystemSample) -> str:
    told = f"cpu {sample.cpu_percent:.0f} %, memory {size(sample.memory_bytes_used)} in use"
    for gpu in sample.gpus:
        told += f", gpu {gpu.gpu_id} {gpu.utilization_percent} % {size(gpu.memory_bytes_used)}"
    return told


def _gap(gap: feed_pb2.Gap) -> str:
    which = f" {gap.first_sequence} to {gap.last_sequence}" if gap.last_sequence else ""
    return f"entries{which} are missing ({gap.reason})"


def _log(line: feed_pb2.LogLine) -> str:
    return f"| {line.text}"


_LINES: Mapping[str, Callable[[Any], str]] = {
    "state_change": _state,
    "train_metrics": _train,
    "eval_metrics": _evaluation,
    "log_line": _log,
    "event": _event,
    "checkpoint_saved": _checkpoint,
    "data_prepared": _prepared,
    "system_sample": _system,
    "gap": _gap,
    "keepalive": lambda _: "(alive)",
}
