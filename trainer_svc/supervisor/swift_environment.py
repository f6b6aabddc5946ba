"""The environment of its own that ms-swift is installed in.

Owns finding out whether it is there and which version it is. Imports nothing of
it: its interpreter is asked for the metadata of what is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from svckit.swift import MAJORS, major_of

DISTRIBUTION = "ms-swift"
_SHOWN = (DISTRIBUTION, "torch", "transformers", "peft", "bitsandbytes", "modelscope", "deepspeed")
_SECONDS_MAX = 60.0
_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class SwiftEnvironment:
    """Its interpreter, and what is installed, by distribution."""

    python: Path
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Of ms-swift."""
        return self.versions[DISTRIBUTION]


def find_swift(python: Path | None) -> tuple[SwiftEnvironment | None, str]:
    """The environment, or None and why there is none. Blocking: starts the interpreter once."""
    if python is None:
        return None, "no environment with ms-swift is configured (--swift-python)"
    # Not resolved: a virtual environment is known by the path of its link.
    python = Path(os.path.abspath(python.expanduser()))
    try:
        versions = _versions(python)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return None, f"{python} cannot be asked what is installed: {_reason(error)}"
    if DISTRIBUTION not in versions:
        return None, f"ms-swift is not installed in the environment of {python}"
    if major_of(versions[DISTRIBUTION]) is None:
        known = " and ".join(f"{major}.x" for major in MAJORS)
        return None, f"ms-swift {versions[DISTRIBUTION]} is not supported; {known} are"
    return SwiftEnvironment(python, versions), ""


def _versions(python: Path) -> Mapping[str, str]:
    argv = [str(python), "-I", "-c", _ASK, *_SHOWN]
    done = subprocess.run(argv, capture_output=True, timeout=_SECONDS_MAX, check=True)
    found = json.loads(done.stdout)
    return {str(name): str(version) for name, version in found.items()}


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"exit code {error.returncode}"
    return str(error)
