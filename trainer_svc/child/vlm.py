"""Loads a vision-language model and its processor.

Owns which parts of such a model are trained: the language model's linear layers
alone. Its other parts, the vision tower and what leads from it, stay as they
were trained, in full precision: they are a small share of the memory, what they
lose in 4 bits every picture loses, and the language model was made to fit what
they say. Refuses a model that reads no pictures, and one whose processor needs
a library that is not there (RunFailed).
"""

import re
from typing import TYPE_CHECKING, Any

from tunewright.v1.spec_pb2 import Hyperparameters

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hardware import Hardware
from trainer_svc.child.model import BaseModel, empty_model, load_base, pad_with_end

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, ProcessorMixin

LIBRARY_NEEDED = re.compile(
    r"requires the (\S+) library|No module named '([^'.]+)|Package `([^`]+)` is required"
)


def load_processor(base: BaseModel) -> "ProcessorMixin":
    """The processor in the model's folder: tokenizer and what makes pixels of pictures.
    Raises RunFailed."""
    from transformers import AutoProcessor

    auto: Any = AutoProcessor
    try:
        processor: Any = auto.from_pretrained(
            base.folder, trust_remote_code=base.trusted, local_files_only=True
        )
    except ImportError as error:
        raise _library_missing(base, error) from error
    if None in (getattr(processor, name, None) for name in ("image_processor", "image_token")):
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"{base.name} has no processor for pictures",
            "Use a model folder with processor_config.json and preprocessor_config.json.",
        )
    pad_with_end(processor.tokenizer, base)
    return processor  # type: ignore[no-any-return]  # AutoProcessor is untyped


def load_vlm(base: BaseModel, wanted: Hyperparameters, hardware: Hardware) -> "PreTrainedModel":
    """The base model, its language model quantised if asked for. Raises RunFailed."""
    from transformers import AutoModelForImageTextToText

    return load_base(
        base,
        wanted,
        hardware,
        auto=AutoModelForImageTextToText,
        unquantised=_parts_beside_language(empty_model(base, AutoModelForImageTextToText)),
    )


def frozen_parts(model: "PreTrainedModel") -> list[str]:
    """The names of the modules that get no LoRA: everything but the language model. Its output
    layer, which may stand beside it, is left to the rules for any model."""
    known: Any = model  # most of its methods are untyped
    output = known.get_output_embeddings()
    return [
        name for name in _parts_beside_language(model) if model.get_submodule(name) is not output
    ]


def _parts_beside_language(model: "PreTrainedModel") -> list[str]:
    known: Any = model
    language = known.get_decoder()
    if language is model:
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"{type(model).__name__} has no language model apart from its vision tower",
            "Train this model with the swift backend.",
        )
    return list(_beside(model, language, ""))


def _beside(module: "nn.Module", language: "nn.Module", prefix: str) -> list[str]:
    """The largest modules below `module` that have nothing of `language` in them."""
    names = []
    for name, child in module.named_children():
        if child is language:
            continue
        if any(below is language for below in child.modules()):
            names += _beside(child, language, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def _library_missing(base: BaseModel, error: ImportError) -> RunFailed:
    found = LIBRARY_NEEDED.search(str(error))
    library = next(filter(None, found.groups()), "") if found else ""
    return RunFailed(
        Cause.ENVIRONMENT_INVALID,
        f"the processor of {base.name} needs {library or 'a library'}, which is not installed"
        " on this trainer",
        f"Install {library or 'the library that the log names'} on the trainer, or use a model"
        " that does without.",
    )
