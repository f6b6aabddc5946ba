"""What a demo prints: a line per step, then the curve, the reply, and where everything is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from tunewright.cli import words
from tunewright.cli.local.chart import chart
from tunewright.cli.local.layout import StateFolder
from tunewright.cli.local.verdict import Verdict


@dataclass
class Step:
    """One step; `told` is what it came to."""

    told: str = ""


class DemoPage:
    """Prints as the demo goes. `quiet` prints nothing: JSON follows."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self._console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str = "") -> None:
        """One line, with rich's marks."""
        if not self.quiet:
            self._console.print(text)

    def title(self, text: str) -> None:
        """The first line."""
        self.say(f"[bold]{text}[/bold]\n")

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Times a step and ticks it off; one that fails gets no tick."""
        began = time.monotonic()
        step = Step()
        yield step
        took = words.span(time.monotonic() - began)
        self.say(f"[green]✓[/green] {name}  [dim]{escape(step.told)}  {took}[/dim]")

    def verdict(self, verdict: Verdict) -> None:
        """The curve, the reply, and what was checked."""
        self.say("\n[bold]Training loss[/bold]")
        for line in chart(verdict.losses):
            self.say(f"  [cyan]{escape(line)}[/cyan]")
        first, last = (words.number(verdict.losses[at][1]) for at in (0, -1))
        self.say(f"  {first} at first, [bold]{last}[/bold] at last{_evaluated(verdict)}")
        self.say(f"\n[bold]Asked[/bold]    {escape(verdict.prompt)}")
        self.say(f"[bold]Replied[/bold]  {escape(verdict.reply)}")
        if verdict.problems:
            self.say()
        for problem in verdict.problems:
            self.say(f"[red]✗ {escape(problem)}[/red]")
        self.say(f"\n[bold]Adapter[/bold]  {escape(verdict.adapter)}")
        if not verdict.problems:
            self.say("         its loss fell to under half, its manifest's hashes hold")

    def where(self, folder: StateFolder, succeeded: bool) -> None:
        """Where everything is, and how to continue."""
        self.say(f"[bold]State[/bold]    {escape(str(folder.path))}   (logs in logs/)")
        if succeeded:
            self.say("\nContinue with the same model and data, then with your own:")
            for line in next_commands(folder.path, Path.cwd()):
                self.say(f"  {escape(line)}")


def next_commands(state: Path, here: Path) -> list[str]:
    """What to type next: the services on the demo's state, and a job on its model and data."""
    shown = os.path.relpath(state, here) if state.is_relative_to(here) else str(state)
    assets = f"{shown}/assets"
    # `up` allows the current folder; what lies elsewhere has to be named.
    roots = "" if state.is_relative_to(here) else f" --model-root {assets} --data-root {assets}"
    return [
        f"tunewright up --state {shown}{roots}",
        f"tunewright jobs create --model {assets}/model --data {assets}/train.jsonl --cpu --watch",
    ]


def _evaluated(verdict: Verdict) -> str:
    if not verdict.eval_losses:
        return ""
    first, last = (words.number(verdict.eval_losses[at][1]) for at in (0, -1))
    return f"; on dialogues it has not seen {first}, then {last}"
