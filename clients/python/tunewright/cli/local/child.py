"""The two helpers of the trainer's package that a demo runs, as processes of their own.

Not imported: they need the training libraries, this command does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.cli.exits import CommandError, ExitCode

_SECONDS_MAX = 300


@dataclass(frozen=True)
class DemoAssets:
    """A tiny model, and dialogues to train and evaluate on: absolute paths."""

    model: str
    train: str
    evaluation: str


def make_assets(folder: Path) -> DemoAssets:
    """Makes them in `folder`. The same bytes each time."""
    made = _run("demo_assets", "--out", str(folder))
    return DemoAssets(made["model"], made["train"], made["eval"])


def ask_adapter(model: str, adapter: str, prompt: str) -> str:
    """What the trained adapter replies; it checks the manifest once more, by its own code."""
    told = _run("try_adapter", "--model", model, "--adapter", adapter, "--prompt", prompt)
    return str(told["reply"])


def _run(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON line that a helper prints last; CommandError with its last word if it fails."""
    argv = [sys.executable, "-m", f"trainer_svc.child.{module}", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise CommandError(f"{module} failed: {words[-1]}", ExitCode.FAILED)
    told: dict[str, Any] = json.loads(lines[-1])
    return told
