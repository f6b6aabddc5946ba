"""What one run is to do, as written in its spec.json.

Owns reading that file into types. Refuses a file that is not one (RunFailed,
INTERNAL: only the trainer service writes it). The values were judged when the
job was created and are not judged again here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from tunewright.v1.spec_pb2 import ACCELERATOR_CPU, JobSpec

from trainer_svc.child.failure import Cause, RunFailed


@dataclass(frozen=True)
class Paths:
    """Where the run reads and writes; all absolute."""

    run: Path
    checkpoints: Path
    staging: Path
    cache: Path


@dataclass(frozen=True)
class SwiftEnvironment:
    """The environment of its own that ms-swift is installed in."""

    python: Path
    version: str


@dataclass(frozen=True)
class RunSpec:
    """One attempt at one job. `job` is the name, "jobs/ID"."""

    job: str
    attempt: int
    spec: JobSpec
    spec_json: Mapping[str, Any]
    resume: bool
    paths: Paths
    model_roots: tuple[Path, ...]
    data_roots: tuple[Path, ...]
    allow_hub: bool
    trust_remote_code: bool = False
    """An administrator allowed this model to bring code."""
    swift: SwiftEnvironment | None = None

    @property
    def job_id(self) -> str:
        """The job's id, without "jobs/"."""
        return self.job.rpartition("/")[2]

    @property
    def use_cpu(self) -> bool:
        """Whether the job asked for a CPU slot."""
        return bool(self.spec.resources.accelerator == ACCELERATOR_CPU)


def read_run_spec(run_folder: Path) -> RunSpec:
    """Reads `run_folder`/spec.json. Raises RunFailed."""
    try:
        document = json.loads((run_folder / "spec.json").read_bytes())
        return _run_spec(document)
    except (OSError, ValueError, KeyError, TypeError, ParseError) as error:
        raise RunFailed(
            Cause.INTERNAL,
            f"{run_folder / 'spec.json'} cannot be read: {error}",
            "Retry the job; if it fails again, this is a fault of Tunewright's.",
        ) from error


def _run_spec(document: Mapping[str, Any]) -> RunSpec:
    paths = document["paths"]
    return RunSpec(
        job=document["job"],
        attempt=int(document["attempt"]),
        # A newer service may know fields that this process does not.
        spec=ParseDict(document["spec"], JobSpec(), ignore_unknown_fields=True),
        spec_json=document["spec"],
        resume=bool(document["resume"]),
        paths=Paths(
            run=Path(paths["run"]),
            checkpoints=Path(paths["checkpoints"]),
            staging=Path(paths["staging"]),
            cache=Path(paths["cache"]),
        ),
        model_roots=tuple(Path(root) for root in document["model_roots"]),
        data_roots=tuple(Path(root) for root in document["data_roots"]),
        allow_hub=bool(document["allow_hub"]),
        trust_remote_code=bool(document.get("trust_remote_code")),
        swift=_swift(document.get("swift")),
    )


def _swift(value: Mapping[str, Any] | None) -> SwiftEnvironment | None:
    return SwiftEnvironment(Path(value["python"]), str(value["version"])) if value else None
