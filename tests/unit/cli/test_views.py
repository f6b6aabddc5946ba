"""How a watched job looks: on a terminal, in a pipe, as JSON."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from tunewright.cli.output import table_lines
from tunewright.cli.views import JsonView, LiveView, PlainView
from tunewright.errors import Unavailable
from tunewright.v1 import feed_pb2, job_pb2


def metrics(step: int) -> feed_pb2.Entry:
    told = feed_pb2.TrainMetrics(
        step=step, total_steps=64, loss=2.5, learning_rate=1e-4, tokens_per_second=900
    )
    return feed_pb2.Entry(sequence=step, job="jobs/a", train_metrics=told)


def test_the_live_bar_shows_steps_losses_and_speed_with_events_above_it() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150, color_system=None)
    evaluated = feed_pb2.EvalMetrics(step=30, loss=1.25)

    with LiveView("job-a", console) as view:
        view.show(feed_pb2.Entry(state_change=feed_pb2.StateChange(to=job_pb2.JOB_STATE_RUNNING)))
        view.show(feed_pb2.Entry(eval_metrics=evaluated))
        view.show(metrics(32))

    drawn = screen.getvalue()
    assert "RUNNING\n" in drawn.replace(" \n", "\n").replace("\r", "")
    assert "evaluated at step 30: loss 1.25" in drawn
    assert "job-a" in drawn
    assert "32/64" in drawn
    assert "loss 2.5  eval 1.25  lr 0.0001  900 tokens/s" in drawn


def test_the_live_view_says_that_the_connection_is_lost() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150, color_system=None)

    with LiveView("a", console) as view:
        view.interrupted(Unavailable("away"), 1.5)

    assert "connection lost, trying again in 1.5 s" in screen.getvalue()


def test_markup_in_a_line_is_shown_as_it_is() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=150, color_system=None)

    with LiveView("[red]a", console) as view:
        view.show(feed_pb2.Entry(event=feed_pb2.Event(message="[bold]not bold[/bold]")))

    assert "[bold]not bold[/bold]" in screen.getvalue()
    assert "[red]a" in screen.getvalue()


def test_the_plain_view_prints_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainView() as view:
        view.show(metrics(1))
        view.interrupted(Unavailable("monitor away"), 0.25)

    printed = capsys.readouterr()
    assert printed.out.endswith("step 1/64  loss 2.5  lr 0.0001  900 tokens/s\n")
    assert printed.err == "connection lost (monitor away); trying again in 0.2 s\n"


def test_the_json_view_prints_an_object_a_line_in_snake_case(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with JsonView() as view:
        view.show(metrics(1))
        view.show(metrics(2))

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["train_metrics"]["total_steps"] == "64"
    assert first["attempt"] == 0  # plain fields are always there
    assert second["sequence"] == "2"


def test_a_table_aligns_wide_characters_and_cuts_only_for_a_terminal() -> None:
    rows = [("模型", "x"), ("abcdef", "a long note")]

    assert table_lines(rows) == ["模型    x", "abcdef  a long note"]
    assert table_lines(rows, width=12) == ["模型    x", "abcdef  a l…"]
