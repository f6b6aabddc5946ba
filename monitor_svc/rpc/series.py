"""A metric as a series: which there are, and how to read one from the entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from monitor_svc.domain.entries import METRICS, Entry
from monitor_svc.domain.ports import ReadStore
from monitor_svc.domain.thinning import Point

_PAGE_ENTRIES = 2_000

Read = Callable[[Entry], Point | None]


def _train(field: str) -> Read:
    def read(entry: Entry) -> Point | None:
        metrics = entry.train_metrics
        if not (entry.HasField("train_metrics") and metrics.HasField(field)):  # type: ignore[arg-type] # names of optional fields
            return None
        return metrics.step, float(getattr(metrics, field))

    return read


def _eval_loss(entry: Entry) -> Point | None:
    metrics = entry.eval_metrics
    return (metrics.step, metrics.loss) if entry.HasField("eval_metrics") else None


def _eval_token_accuracy(entry: Entry) -> Point | None:
    metrics = entry.eval_metrics
    if not metrics.HasField("token_accuracy"):
        return None
    return metrics.step, metrics.token_accuracy


_OF_TRAINING = (
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "token_accuracy",
    "host_memory_bytes",
    "gpu_memory_bytes_max",
)

SERIES: Final[Mapping[str, Read]] = {
    **{field: _train(field) for field in _OF_TRAINING},
    "eval_loss": _eval_loss,
    "eval_token_accuracy": _eval_token_accuracy,
}


def read_series(store: ReadStore, job: str, metric: str) -> list[Point]:
    """All points of a metric in the order of their steps.

    A step that a later attempt did again has the later value.
    """
    points: dict[int, float] = {}
    for entry in _metrics_entries(store, job):
        point = SERIES[metric](entry)
        if point is not None:
            points[point[0]] = point[1]
    return sorted(points.items())


def _metrics_entries(store: ReadStore, job: str) -> Iterable[Entry]:
    after = 0
    while True:
        page = store.read_job(job, after, _PAGE_ENTRIES, (METRICS,))
        for stored in page.entries:
            yield stored.entry
        after = page.upto
        if after >= page.head.last_sequence:
            return
