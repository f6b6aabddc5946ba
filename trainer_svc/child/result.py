"""The result of a run: the folder that is published, and result.json.

Owns what is in them. The adapter of the last step is the result; the checkpoint
with the lowest evaluation loss stays among the checkpoints and is named in the
manifest. result.json is written last of all, atomically.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from trainer_svc.child.run_spec import RunSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


def stage_result(
    run: RunSpec,
    adapter: Path,
    tokenizer: "PreTrainedTokenizerBase",
    base: BaseModel,
    receipts: Sequence[DataPrepared],
    metrics: Mapping[str, float],
) -> str:
    """Makes the staging folder from the adapter files in `adapter`; the manifest's digest."""
    remove_tree(run.paths.staging)
    run.paths.staging.mkdir(parents=True)
    for name in ADAPTER_FILES:
        shutil.copyfile(adapter / name, run.paths.staging / name)
    tokenizer.save_pretrained(run.paths.staging)
    fields = {
        "job": run.job,
        "attempt": run.attempt,
        "spec": dict(run.spec_json),
        "base_model": {
            "name": base.name,
            "revision": base.revision,
            "path": str(base.folder),
        },
        "library_versions": library_versions(),
        "data": [MessageToDict(receipt, preserving_proto_field_name=True) for receipt in receipts],
        "metrics": dict(metrics),
    }
    return seal(run.paths.staging, fields).digest
