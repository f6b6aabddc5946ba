"""The `tunewright` command. Needs the extra [cli]: typer and rich; says so where they lack."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command and ends the process with its exit code."""
    try:
        from tunewright.cli.app import run
    except ModuleNotFoundError as missing:
        if missing.name not in ("typer", "rich"):
            raise
        print("error: the command line needs: pip install 'tunewright[cli]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
