"""The commits of a job: what a name on a hub means for all of its attempts.

Owns pins.json, beside the job's checkpoints. The first attempt that asks pins a
source; each later one gets the same commit, wherever it runs and wherever the
branch has moved. Refuses a file that cannot be read (RunFailed,
CHECKPOINT_INVALID): to pin again would train on something else without a word.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from trainer_svc.child.durable import write_atomically
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.run_spec import RunSpec

PINS_FILE = "pins.json"


class RepositoryKind(StrEnum):
    """As the Hugging Face libraries call it."""

    MODEL = "model"
    DATASET = "dataset"


@dataclass(frozen=True)
class Repository:
    """A model or a data set on a hub; an empty revision means the hub's default."""

    kind: RepositoryKind
    name: str
    revision: str

    @property
    def key(self) -> str:
        """As in job.proto's Progress: a model and a data set may have the same name."""
        return self.name if self.kind is RepositoryKind.MODEL else f"datasets/{self.name}"

    @property
    def words(self) -> str:
        """For a person."""
        return ("model " if self.kind is RepositoryKind.MODEL else "data set ") + self.name

    @property
    def cause(self) -> Cause:
        """Of a failure that is this repository's own."""
        is_model = self.kind is RepositoryKind.MODEL
        return Cause.MODEL_INVALID if is_model else Cause.DATASET_INVALID


class Pins:
    """The pins of one job."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def every(self) -> Mapping[str, str]:
        """Commits by key. Raises RunFailed."""
        try:
            read = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self._broken() from error
        if not isinstance(read, dict) or not all(isinstance(one, str) for one in read.values()):
            raise self._broken()
        return read

    def put(self, repository: Repository, commit: str) -> str:
        """Pins it where it is not; the commit that stands. Raises RunFailed, OSError."""
        pins = self.every()
        if repository.key not in pins:
            pins = {**pins, repository.key: commit}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(pins, indent=1, sort_keys=True).encode())
        return pins[repository.key]

    def _broken(self) -> RunFailed:
        return RunFailed(
            Cause.CHECKPOINT_INVALID,
            f"{self._file} cannot be read: it holds the commits that this job uses",
            "Hand in a new job; it uses what the hub has now.",
        )


def pins_of(run: RunSpec) -> Pins:
    """The pins of the run's job."""
    return Pins(run.paths.checkpoints.parent / PINS_FILE)
