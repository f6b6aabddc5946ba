"""Loads the tokenizer and the base model, and puts LoRA on it.

Owns quantisation (NF4 with double quantisation, nf4.py), the freezing of the
base, and whether a model is of the kind that the job says. Runs code that comes with a
model only where an administrator allowed it, never reads weights from pickles,
and refuses a model whose weights do not cover it: the library would fill the
rest with random numbers and say so in a log only (RunFailed, MODEL_INVALID).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.v1.spec_pb2 import MODEL_KIND_VLM, Hyperparameters, ModelKind

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hardware import Hardware
from trainer_svc.child.tokenizer_files import as_sentencepiece, require_readable

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

    from trainer_svc.child.targets import Targets

ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class BaseModel:
    """Where the base model was found. `revision` is the hub's commit, "" for a folder."""

    name: str
    revision: str
    folder: Path
    trusted: bool = False
    """An administrator allowed it to bring code."""


def load_config(base: BaseModel) -> Any:
    """The model's config. Raises what transformers raises."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        base.folder, trust_remote_code=base.trusted, local_files_only=True
    )


def empty_model(base: BaseModel, auto: Any = None) -> "PreTrainedModel":
    """The model's modules without their weights. `auto` is the class that makes them, by default
    that of causal language models."""
    import torch
    from transformers import AutoModelForCausalLM

    loader: Any = auto or AutoModelForCausalLM  # untyped
    with torch.device("meta"):
        return loader.from_config(  # type: ignore[no-any-return]
            load_config(base), trust_remote_code=base.trusted
        )


def load_tokenizer(base: BaseModel) -> "PreTrainedTokenizerBase":
    """The tokenizer in the model's folder. Raises RunFailed."""
    from transformers import AutoTokenizer

    require_readable(base.folder, base.name)

    tokenizer: Any = AutoTokenizer.from_pretrained(
        base.folder, trust_remote_code=base.trusted, local_files_only=True
    )
    tokenizer = as_sentencepiece(base.folder, base.name, tokenizer)
    pad_with_end(tokenizer, base)
    return tokenizer  # type: ignore[no-any-return]  # AutoTokenizer is untyped


def pad_with_end(tokenizer: Any, base: BaseModel) -> None:
    """Gives a tokenizer without a pad token its end token for one. Raises RunFailed."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise _refused(f"the tokenizer of {base.name} has neither a pad nor an end token")


def check_kind(base: BaseModel, model_kind: ModelKind.ValueType) -> None:
    """Refuses a model that is not of the kind that the job says (RunFailed)."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    config = load_config(base)
    reads_pictures = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if model_kind == MODEL_KIND_VLM and not reads_pictures:
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"{base.name} ({config.model_type}) reads no pictures, and model_kind is vlm",
            "Set model_kind to llm, or use a vision-language model.",
        )
    text_alone = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    if model_kind != MODEL_KIND_VLM and reads_pictures and not text_alone:
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"{base.name} ({config.model_type}) is a vision-language model, and model_kind is llm",
            "Set model_kind to vlm.",
        )
    _check_stored(base, config)


def _check_stored(base: BaseModel, config: Any) -> None:
    """Refuses weights that are stored in a form that LoRA cannot be trained on here."""
    method = _stored_method(config)
    if method not in ("", "bitsandbytes"):
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"the weights of {base.name} are stored as {method[:40]}; only weights in full"
            " precision, or quantised by bitsandbytes, can be trained on",
            "Use the edition of the model in full precision (bf16); load_in_4bit quantises it when"
            " it is loaded.",
        )


def _stored_method(config: Any) -> str:
    """How the weights are quantised where they are stored; "" if they are not."""
    stored = getattr(config, "quantization_config", None) or {}
    if not isinstance(stored, dict):
        stored = stored.to_dict()
    if not stored:
        return ""
    return str(stored.get("quant_method") or "bitsandbytes").rsplit(".", 1)[-1].lower()


def load_base(
    base: BaseModel,
    wanted: Hyperparameters,
    hardware: Hardware,
    auto: Any = None,
    unquantised: Sequence[str] = (),
) -> "PreTrainedModel":
    """The base model, quantised if asked for, but for the modules named. `auto` is the class
    that loads it, by default that of causal language models. Raises RunFailed."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from trainer_svc.child.nf4 import nf4_config

    dtype = torch.bfloat16 if hardware.bf16 else torch.float32
    quantization = None
    if wanted.load_in_4bit and not _stored_method(load_config(base)):
        quantization = nf4_config(dtype, unquantised)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # no stubs
    loader: Any = auto or AutoModelForCausalLM  # the stubs do not know output_loading_info
    model, report = loader.from_pretrained(
        base.folder,
        dtype=dtype,
        quantization_config=quantization,
        device_map=hardware.device_map,
        trust_remote_code=base.trusted,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    for flaw in ("missing_keys", "mismatched_keys"):
        if report[flaw]:
            first = ", ".join(map(str, sorted(report[flaw])[:3]))
            raise _refused(f"the weights of {base.name} are incomplete ({flaw}: {first}, ...)")
    if hardware.use_cpu:
        _keep_weights_as_they_are(model)
    return model  # type: ignore[no-any-return]  # as above


def _keep_weights_as_they_are(model: Any) -> None:
    """On a CPU with AVX512-BF16 an evaluation would repack the 4-bit weights for good, and
    training after it would compute in slightly other numbers than training resumed after it."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def add_lora(
    model: "PreTrainedModel",
    wanted: Hyperparameters,
    targets: "Targets",
    untouched: Sequence[str] = (),
) -> "PeftModel":
    """The model with fresh LoRA matrices in float32 and everything else frozen; the modules
    `untouched` get none, whatever the targets name.

    float32, because bf16 rounds small updates of the matrices away; they are a
    small share of the memory. Two runs of one seed begin with the same matrices.
    Raises ValueError for modules that do not exist.
    """
    import torch
    from peft import get_peft_model

    torch.manual_seed(wanted.seed)  # the trainer sets it only after they are made
    return get_peft_model(model, lora_config(wanted, targets, untouched))


def lora_config(
    wanted: Hyperparameters, targets: "Targets", untouched: Sequence[str] = ()
) -> "LoraConfig":
    """The adapter that the hyperparameters describe."""
    from peft import LoraConfig, TaskType

    modules = list(targets.modules)
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=wanted.lora_r,
        lora_alpha=wanted.lora_alpha,  # type: ignore[arg-type]  # a float works and is saved as one
        lora_dropout=wanted.lora_dropout,
        use_rslora=wanted.use_rslora,
        use_dora=wanted.use_dora,
        target_modules=ALL_LINEAR if modules == [ALL_LINEAR] else modules,
        target_parameters=list(targets.parameters) or None,
        # Peft finds names by how they end, and a vision tower has a "q_proj" as well.
        exclude_modules=rf"({'|'.join(map(re.escape, untouched))})(\..*)?" if untouched else None,
    )


def check_vocabulary(
    model: "PreTrainedModel", processing: "PreTrainedTokenizerBase | ProcessorMixin"
) -> None:
    """Refuses a tokenizer with ids that the model has no embedding for (RunFailed)."""
    tokenizer: Any = getattr(processing, "tokenizer", processing)
    embeddings: Any = model.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    if len(tokenizer) > rows:
        raise _refused(f"the tokenizer has {len(tokenizer)} tokens, the model only {rows}")


def _refused(message: str) -> RunFailed:
    hint = "Use a model folder whose config, weights and tokenizer belong together."
    return RunFailed(Cause.MODEL_INVALID, message, hint)
