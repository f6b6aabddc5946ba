"""The environment of its own that ms-swift is installed in, for tests that train with it."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "TUNEWRIGHT_TEST_SWIFT_PYTHON"
_DEFAULT = Path(__file__).resolve().parents[2] / ".venv-swift" / "bin" / "python"


def swift_python() -> Path:
    """Its interpreter. A test that needs it fails without it: `make setup-swift` makes it."""
    python = Path(os.environ.get(VARIABLE, _DEFAULT))
    assert python.exists(), f"{python} does not exist: run `make setup-swift`, or set {VARIABLE}"
    return python
