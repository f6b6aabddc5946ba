"""The result of a run: the folder that is published, and result.json.

Owns what is in them. The adapter of the last step is the result; the checkpoint
with the lowest evaluation loss stays among the checkpoints and is named in the
manifest. result.json is written last of all, atomically.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from tunewright.v1.feed_pb2 import DataPrepared

from trainer_svc.child.durable import remove_tree, write_atomically
from trainer_svc.child.failure import Failure
from trainer_svc.child.hardware import library_versions
from trainer_svc.child.manifest import seal
from trainer_svc.child.model import BaseModel
from trainer_svc.child.pins import pins_of
from trainer_svc.child.run_spec import RunSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Ending:
    """What result.json says. `manifest_digest` only when COMPLETED, `failure` when FAILED."""

    outcome: Outcome
    step: int = 0
    total_steps: int = 0
    failure: Failure | None = None
    manifest_digest: str | None = None


def write_result(run_folder: Path, ending: Ending) -> None:
    """Writes result.json. Raises OSError."""
    document: dict[str, Any] = {
        "outcome": ending.outcome,
        "step": ending.step,
        "total_steps": ending.total_steps,
        "failure": None,
    }
    if ending.failure is not None:
        document["failure"] = {
            "cause": ending.failure.cause,
            "message": ending.failure.message,
            "hint": ending.failure.hint,
            "exception_type": ending.failure.exception_type,
        }
    if ending.manifest_digest is not None:
        document["manifest_digest"] = ending.manifest_digest
    write_atomically(run_folder / "result.json", json.dumps(document, ensure_ascii=False).encode())


@dataclass(frozen=True)
class About:
    """What the manifest says of a result, besides its files. `more`: fields of one backend."""

    base: BaseModel
    receipts: Sequence[DataPrepared]
    metrics: Mapping[str, float]
    library_versions: Mapping[str, str]
    more: Mapping[str, Any] = field(default_factory=dict)


def stage_result(
    run: RunSpec,
    adapter: Path,
    processing: "PreTrainedTokenizerBase | ProcessorMixin",
    base: BaseModel,
    receipts: Sequence[DataPrepared],
    metrics: Mapping[str, float],
    more: Mapping[str, Any],
) -> str:
    """Makes the staging folder from the adapter files in `adapter`; the manifest's digest.
    `more`: as in About."""

    def add_processing(folder: Path) -> None:
        processing.save_pretrained(str(folder))

    about = About(base, receipts, metrics, library_versions(), more)
    return stage(run, adapter, add_processing, about)


def stage(run: RunSpec, adapter: Path, add_files: Callable[[Path], None], about: About) -> str:
    """The same, for whoever has no processing loaded: `add_files` puts it into the folder."""
    remove_tree(run.paths.staging)
    run.paths.staging.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(adapter / name, run.paths.staging / name)
    add_files(run.paths.staging)
    fields = {
        "job": run.job,
        "attempt": run.attempt,
        "spec": dict(run.spec_json),
        "base_model": {
            "name": about.base.name,
            "revision": about.base.revision,
            "path": str(about.base.folder),
        },
        # Of the data sets too; a receipt names its source as the spec does.
        "revisions": dict(pins_of(run).every()),
        "library_versions": dict(about.library_versions),
        "data": [MessageToDict(one, preserving_proto_field_name=True) for one in about.receipts],
        "metrics": dict(about.metrics),
        **about.more,
    }
    return seal(run.paths.staging, fields).digest
