"""The tiny model and dialogues that tests train on: made by code, once a test process."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Assets:
    """Folder of a tiny Qwen3, and dialogues to train and evaluate on."""

    folder: Path

    @property
    def model(self) -> str:
        """The model's folder."""
        return str(self.folder / "model")

    @property
    def train(self) -> str:
        """JSON Lines of messages."""
        return str(self.folder / "train.jsonl")

    @property
    def evaluation(self) -> str:
        """The same, other rows."""
        return str(self.folder / "eval.jsonl")


def make_assets(folder: Path) -> Assets:
    """Makes them as `tunewright demo` does."""
    subprocess.run(
        [sys.executable, "-m", "trainer_svc.child.demo_assets", "--out", str(folder)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return Assets(folder)


def make_vlm_assets(folder: Path) -> Assets:
    """A tiny LLaVA, and dialogues about pictures that lie next to them."""
    command = [sys.executable, "-m", "trainer_svc.child.demo_assets", "--kind", "vlm"]
    subprocess.run([*command, "--out", str(folder)], check=True, capture_output=True, timeout=120)
    return Assets(folder)
