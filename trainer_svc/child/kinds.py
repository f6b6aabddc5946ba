"""What differs between the kinds of model: how one is loaded, and how its rows become batches.

Owns the choice. The run itself is the same for every kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.v1.spec_pb2 import MODEL_KIND_VLM, Hyperparameters

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hardware import Hardware
from trainer_svc.child.inspection import Inspection
from trainer_svc.child.model import BaseModel, empty_model, load_base, load_tokenizer
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.sources import Prepared, prepare_sources
from trainer_svc.child.spool import Spool
from trainer_svc.child.vlm import frozen_parts, load_processor, load_vlm
from trainer_svc.child.vlm_batches import PictureBatches
from trainer_svc.child.vlm_prepare import prepare_pictures

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Kind:
    """The steps of a run that depend on the kind. "Processing" is a tokenizer, or a processor
    that has one; every step may raise RunFailed."""

    empty: Callable[[BaseModel], "PreTrainedModel"]
    """The modules of the model, without weights."""
    load_processing: Callable[[BaseModel], Any]
    prepare: Callable[[RunSpec, Any, Path, Spool, Inspection], Prepared]
    load_base: Callable[[BaseModel, Hyperparameters, Hardware], "PreTrainedModel"]
    untouched: Callable[["PreTrainedModel"], Sequence[str]]
    """The modules that get no LoRA, whatever the job names."""
    collator: Callable[[Any], Callable[[Any], dict[str, Any]] | None]
    """What makes batches of the prepared rows; None: the trainer does it itself."""


def _empty_vlm(base: BaseModel) -> "PreTrainedModel":
    from transformers import AutoModelForImageTextToText

    return empty_model(base, AutoModelForImageTextToText)


LLM = Kind(empty_model, load_tokenizer, prepare_sources, load_base, lambda _: (), lambda _: None)
VLM = Kind(_empty_vlm, load_processor, prepare_pictures, load_vlm, frozen_parts, PictureBatches)


def kind_of(run: RunSpec) -> Kind:
    """The kind that the job says its model is."""
    return VLM if run.spec.model_kind == MODEL_KIND_VLM else LLM


def require_possible(run: RunSpec) -> None:
    """Refuses what models of the job's kind cannot do (RunFailed)."""
    if kind_of(run) is VLM and run.spec.hyperparameters.packing:
        raise RunFailed(
            Cause.CONFIG_INVALID,
            "packing does not work with model_kind vlm: rows with pictures cannot share a sequence",
            "Set packing to false.",
        )
