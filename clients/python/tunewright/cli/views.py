"""How a watched job is shown: a live bar on a terminal, plain lines elsewhere, JSON for programs.

Each view is told of entries and interruptions; none of them calls a service.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from tunewright.cli import words
from tunewright.cli.output import json_line, note, say
from tunewright.errors import ApiError
from tunewright.v1 import feed_pb2
from tunewright.wire.times import moment

_STYLES = {"SUCCEEDED": "green", "FAILED": "red", "CANCELLED": "yellow"}


class View(Protocol):
    """What shows a watched job."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, entry: feed_pb2.Entry) -> None:
        """Something happened."""

    def interrupted(self, failure: ApiError, delay_seconds: float) -> None:
        """The stream broke; it is opened again after the delay."""


def view_for(as_json: bool, title: str) -> View:
    """The view that fits where stdout goes."""
    if as_json:
        return JsonView()
    return LiveView(title) if sys.stdout.isatty() else PlainView()


class _Quiet:
    """A view that needs nothing set up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def interrupted(self, failure: ApiError, delay_seconds: float) -> None:
        """Said on stderr, once for each try."""
        note(f"connection lost ({failure}); trying again in {delay_seconds:.1f} s")


class JsonView(_Quiet):
    """One entry as a JSON object on each line."""

    def show(self, entry: feed_pb2.Entry) -> None:
        """Prints it."""
        say(json_line(entry))


class PlainView(_Quiet):
    """One line for each entry: the time and what happened."""

    def __init__(self, print_line: Callable[[str], None] = say) -> None:
        self._print_line = print_line

    def show(self, entry: feed_pb2.Entry) -> None:
        """Prints it."""
        self._print_line(f"{clock_time(entry)}  {words.entry_line(entry)}")


class LiveView:
    """A bar at the bottom; what is worth keeping scrolls by above it."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._eval_loss: float | None = None
        self._progress = Progress(
            SpinnerColumn(style="cyan"),
            TextColumn("{task.description}"),
            BarColumn(24, complete_style="cyan", finished_style="cyan", pulse_style="dim cyan"),
            _Steps(),
            TextColumn("{task.fields[told]}", style="dim"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(escape(title), total=None, told="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, entry: feed_pb2.Entry) -> None:
        """Moves the bar, or prints a line above it."""
        payload = entry.WhichOneof("payload")
        if payload == "train_metrics":
            self._step(entry.train_metrics)
        elif payload not in ("system_sample", "keepalive"):
            self._line(entry)
        if payload == "eval_metrics":
            self._eval_loss = entry.eval_metrics.loss
        if payload == "state_change":
            self._say(words.state_word(entry.state_change.to).lower())

    def interrupted(self, failure: ApiError, delay_seconds: float) -> None:
        """Said beside the bar: the next entry replaces it."""
        self._say(f"connection lost, trying again in {delay_seconds:.1f} s")

    def _step(self, metrics: feed_pb2.TrainMetrics) -> None:
        told = words.metrics_words(metrics)
        if self._eval_loss is not None:
            told = told.replace("  ", f"  eval {words.number(self._eval_loss)}  ", 1)
        self._progress.update(
            self._task,
            total=metrics.total_steps or None,
            completed=metrics.step,
            told=told,
        )

    def _line(self, entry: feed_pb2.Entry) -> None:
        style = ""
        if entry.HasField("state_change"):
            style = _STYLES.get(words.state_word(entry.state_change.to), "bold")
        elif entry.HasField("gap") or entry.event.severity >= feed_pb2.SEVERITY_WARNING:
            style = "yellow"
        told = Text.assemble((f"{clock_time(entry)}  ", "dim"), (words.entry_line(entry), style))
        self._progress.console.print(told)

    def _say(self, told: str) -> None:
        self._progress.update(self._task, told=told)


class _Steps(ProgressColumn):
    """ "40/64", once the number of steps is known."""

    def render(self, task: Task) -> Text:
        """One cell."""
        return Text(f"{task.completed:.0f}/{task.total:.0f}" if task.total else "")


def clock_time(entry: feed_pb2.Entry) -> str:
    """When it happened, in this machine's time zone: "14:03:07"."""
    return f"{moment(entry.time).astimezone():%H:%M:%S}"
