"""grpcurl, a gRPC client that nobody here wrote; from the development dependencies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def grpcurl() -> str:
    """Where it is; skips the test, with the reason, where the platform has no build of it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = shutil.which("grpcurl", path=path)
    if found is None:
        pytest.skip("no grpcurl: the development dependencies bring it, on x86-64 Linux only")
    return found


def ask(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One call without TLS: `arguments` as on a command line, behind the address."""
    return subprocess.run(
        [grpcurl(), "-plaintext", address, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
