"""The environments that backends train in: the trainer's own, and that of ms-swift.

Owns finding out what is there. Imports nothing of ms-swift: its interpreter is
asked for what is installed (environment_report.py).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svckit.swift import MAJORS, major_of
from trainer_svc.domain.families import Environment, packages_asked_for
from trainer_svc.supervisor import environment_report

DISTRIBUTION = "ms-swift"
_SHOWN = (DISTRIBUTION, "torch", "transformers", "peft", "bitsandbytes", "modelscope", "deepspeed")
_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class SwiftEnvironment:
    """Its interpreter, the versions that are shown, by distribution, and all that is there."""

    python: Path
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)

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
        environment = _ask(python)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return None, f"{python} cannot be asked what is installed: {_reason(error)}"
    versions = {name: environment.versions[name] for name in _SHOWN if name in environment.versions}
    if DISTRIBUTION not in versions:
        return None, f"ms-swift is not installed in the environment of {python}"
    if major_of(versions[DISTRIBUTION]) is None:
        known = " and ".join(f"{major}.x" for major in MAJORS)
        return None, f"ms-swift {versions[DISTRIBUTION]} is not supported; {known} are"
    return SwiftEnvironment(python, versions, environment), ""


def own_environment() -> Environment:
    """That of the Python which this is."""
    return _environment(environment_report.report(packages_asked_for()))


def _ask(python: Path) -> Environment:
    names = sorted({*_SHOWN, *packages_asked_for()})
    argv = [str(python), "-I", environment_report.__file__, *names]
    done = subprocess.run(argv, capture_output=True, timeout=_SECONDS_MAX, check=True)
    return _environment(json.loads(done.stdout))


def _environment(report: Mapping[str, Any]) -> Environment:
    return Environment(
        versions={str(name): str(version) for name, version in report["versions"].items()},
        model_types=frozenset(map(str, report["model_types"])),
        swift_types=frozenset(map(str, report["swift_types"])),
        torchvision=str(report["torchvision"]),
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return said[-1] if said else f"exit code {error.returncode}"
    return str(error)
