"""An action for scripted children: each attempt of a job waits for a file of its own.

Run by the scripted child: ["run_file", PATH_OF_THIS, FILE_OF_ATTEMPT_1, FILE_OF_ATTEMPT_2, ...].
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def waiting_for(*files: Path) -> Sequence[Any]:
    """The action; an attempt for which there is no file does not wait."""
    return ["run_file", __file__, *(str(file) for file in files)]


def main(_run: Path, spec: dict[str, Any], *files: str) -> None:
    """Returns once this attempt's file is there."""
    for file in files[spec["attempt"] - 1 :][:1]:
        while not Path(file).exists():
            time.sleep(0.02)
