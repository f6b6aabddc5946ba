"""From a spec to the argv of `swift sft`: one table, a row per flag.

Pure. Owns which flags there are for which major version, and when each is
given: those of TRAINING always where the spec has a value, those of EXTRAS only
where the value is not ms-swift's own default, those of PLATFORM on every run.
Refuses nothing: the spec's values were judged when the job was made. No flag
is taken from a caller, so no plugin, register or remote code can come in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from svckit.spec import Accelerator, DataFormat, JobSpec, ModelKind
from svckit.spec.model import SwiftOptions

MAJORS = (3, 4)
"""Major versions of ms-swift whose flags are known."""

# Below it, repr() and people write 1e-4, not 0.0001.
_SCIENTIFIC_BELOW = 1e-3
Words = Sequence[str]


@dataclass(frozen=True)
class SwiftRun:
    """What only the run knows: paths in the place of the spec's sources and of `output_dir`.

    None or empty: as the spec says.
    """

    output_dir: str
    model: str = ""
    revision: str | None = None
    train: Words = ()
    evaluation: Words = ()
    resume_from: str = ""
    text_only: bool | None = None
    """The rows are plain text; None: they are if every source says so."""


@dataclass(frozen=True)
class Flag:
    """One flag. `values` gives its words; none of them leaves the flag out."""

    name: str
    values: Callable[[JobSpec, SwiftRun], Words]
    majors: Sequence[int] = MAJORS


def major_of(version: str) -> int | None:
    """4 of "4.6.0"; None for a version whose flags are not known."""
    head = version.partition(".")[0]
    return int(head) if head.isdecimal() and int(head) in MAJORS else None


def swift_argv(spec: JobSpec, run: SwiftRun, major: int) -> list[str]:
    """The argv; its first word, "swift", is to be replaced by the executable.

    ValueError for a major version that is not one of MAJORS.
    """
    if major not in MAJORS:
        raise ValueError(f"ms-swift {major} is not known; known: {MAJORS}")
    argv = ["swift", "pt" if _is_text(spec, run) else "sft"]
    for flag in (*TRAINING, *EXTRAS, *PLATFORM):
        if major in flag.majors:
            words = flag.values(spec, run)
            argv += [f"--{flag.name}", *words] if words else []
    return argv


def number(value: float) -> str:
    """A number as a person writes it: "1", "0.05", "1e-4"."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if abs(value) >= _SCIENTIFIC_BELOW:
        return repr(value)
    shortest = next(text for digits in range(17) if float(text := f"{value:.{digits}e}") == value)
    mantissa, _, exponent = shortest.partition("e")
    return f"{mantissa}e{int(exponent)}"


def _is_text(spec: JobSpec, run: SwiftRun) -> bool:
    if run.text_only is not None:
        return run.text_only
    return all(source.format is DataFormat.TEXT for source in spec.train_data)


def _swift(spec: JobSpec) -> SwiftOptions:
    return spec.swift or SwiftOptions()


def _one(read: Callable[[JobSpec], object]) -> Callable[[JobSpec, SwiftRun], Words]:
    """The words of one value of the spec; none if it is None or empty."""
    return lambda spec, _run: _words(read(spec))


def _unless(default: object, read: Callable[[JobSpec], object]) -> Callable[..., Words]:
    """The same, and none if it is ms-swift's own default."""

    def values(spec: JobSpec, _run: SwiftRun) -> Words:
        value = read(spec)
        return () if value == default else _words(value)

    return values


def _words(value: object) -> Words:
    if value is None or value == "":
        return ()
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, int | float):
        return (number(value),)
    if isinstance(value, tuple):
        return tuple(map(str, value))
    return (str(value),)


def _torch_dtype(spec: JobSpec) -> str | None:
    bf16 = spec.hyperparameters.bf16
    if bf16 is None:
        # The model's own, which on a CPU may be one that it cannot compute in.
        return "float32" if spec.resources.accelerator is Accelerator.CPU else None
    return "bfloat16" if bf16 else "float32"


def _dataset(spec: JobSpec, run: SwiftRun) -> Words:
    return run.train or tuple(source.source for source in spec.train_data)


def _val_dataset(spec: JobSpec, run: SwiftRun) -> Words:
    return run.evaluation or tuple(source.source for source in spec.eval_data)


def _revision(spec: JobSpec, run: SwiftRun) -> Words:
    return _words(spec.model.revision if run.revision is None else run.revision)


def _eval_strategy(spec: JobSpec, run: SwiftRun) -> Words:
    evaluates = bool(_val_dataset(spec, run)) and spec.hyperparameters.eval_steps is None
    return ("epoch",) if evaluates else ()


def _lazy_tokenize(spec: JobSpec, run: SwiftRun) -> Words:
    """Row by row for files, whose rows were looked at before; else all of them would be encoded
    again while the model waits on the GPU. Rows from a hub were not taken out where they are of
    no use, and lazily ms-swift would put random others in their place."""
    if spec.hyperparameters.packing:
        return ()
    sources = (*_dataset(spec, run), *_val_dataset(spec, run))
    if all(source.startswith("/") for source in sources):
        return ("true",)
    return ("false",) if spec.model_kind is ModelKind.VLM else ()


def _optim(spec: JobSpec) -> str | None:
    # ms-swift's own is AdamW too, fused where that exists.
    return None if spec.hyperparameters.optim == "adamw_torch" else spec.hyperparameters.optim


# In the order in which people write them.
TRAINING: Sequence[Flag] = (
    Flag("model", lambda spec, run: (run.model or spec.model.name,)),
    Flag("train_type", lambda _spec, _run: ("lora",), (3,)),
    Flag("tuner_type", lambda _spec, _run: ("lora",), (4,)),
    Flag("dataset", _dataset),
    Flag("torch_dtype", _one(_torch_dtype)),
    Flag("num_train_epochs", _one(lambda spec: spec.hyperparameters.num_train_epochs)),
    Flag(
        "per_device_train_batch_size",
        _one(lambda spec: spec.hyperparameters.per_device_train_batch_size),
    ),
    Flag(
        "per_device_eval_batch_size",
        _one(lambda spec: spec.hyperparameters.per_device_eval_batch_size),
    ),
    Flag("learning_rate", _one(lambda spec: spec.hyperparameters.learning_rate)),
    Flag("lora_rank", _one(lambda spec: spec.hyperparameters.lora_r)),
    Flag("lora_alpha", _one(lambda spec: spec.hyperparameters.lora_alpha)),
    Flag("target_modules", _one(lambda spec: spec.hyperparameters.target_modules)),
    Flag(
        "gradient_accumulation_steps",
        _one(lambda spec: spec.hyperparameters.gradient_accumulation_steps),
    ),
    Flag("eval_steps", _one(lambda spec: spec.hyperparameters.eval_steps)),
    Flag("save_steps", _one(lambda spec: spec.hyperparameters.save_steps)),
    Flag("save_total_limit", _one(lambda spec: spec.hyperparameters.save_total_limit)),
    Flag("logging_steps", _one(lambda spec: spec.hyperparameters.logging_steps)),
    Flag("max_length", _one(lambda spec: spec.hyperparameters.max_length)),
    Flag("output_dir", lambda _spec, run: (run.output_dir,)),
    Flag("system", _one(lambda spec: spec.system_prompt)),
    Flag("warmup_ratio", _one(lambda spec: spec.hyperparameters.warmup_ratio)),
    Flag("dataloader_num_workers", _one(lambda spec: spec.hyperparameters.dataloader_num_workers)),
    Flag("model_author", _one(lambda spec: _swift(spec).model_author)),
    Flag("model_name", _one(lambda spec: _swift(spec).model_name)),
)

EXTRAS: Sequence[Flag] = (
    # ms-swift would take fp16 for it.
    Flag("fp16", lambda spec, _run: ("false",) if _torch_dtype(spec) == "float32" else ()),
    Flag("model_revision", _revision),
    Flag("model_type", _one(lambda spec: _swift(spec).model_type)),
    Flag("template", _one(lambda spec: _swift(spec).template)),
    Flag("use_hf", _unless(False, lambda spec: _swift(spec).use_hf)),
    Flag("val_dataset", _val_dataset),
    Flag("eval_strategy", _eval_strategy),
    Flag("max_steps", _unless(-1, lambda spec: spec.hyperparameters.max_steps)),
    Flag("max_pixels", _one(lambda spec: _swift(spec).max_pixels)),
    Flag("freeze_vit", _unless(True, lambda spec: _swift(spec).freeze_vit)),
    Flag("lora_dropout", _unless(0.05, lambda spec: spec.hyperparameters.lora_dropout)),
    Flag("use_rslora", _unless(False, lambda spec: spec.hyperparameters.use_rslora)),
    Flag("use_dora", _unless(False, lambda spec: spec.hyperparameters.use_dora)),
    Flag("neftune_noise_alpha", _one(lambda spec: spec.hyperparameters.neftune_noise_alpha)),
    Flag(
        "lr_scheduler_type", _unless("cosine", lambda spec: spec.hyperparameters.lr_scheduler_type)
    ),
    Flag("weight_decay", _unless(0.1, lambda spec: spec.hyperparameters.weight_decay)),
    Flag("max_grad_norm", _unless(1.0, lambda spec: spec.hyperparameters.max_grad_norm)),
    Flag("seed", _unless(42, lambda spec: spec.hyperparameters.seed)),
    Flag("data_seed", _unless(42, lambda spec: spec.hyperparameters.seed)),
    Flag("packing", _unless(False, lambda spec: spec.hyperparameters.packing)),
    Flag(
        "gradient_checkpointing",
        _unless(True, lambda spec: spec.hyperparameters.gradient_checkpointing),
    ),
    Flag("optim", _one(_optim)),
    Flag(
        "loss_scale",
        lambda spec, _run: () if spec.hyperparameters.assistant_only_loss else ("all",),
    ),
    Flag("quant_method", lambda spec, _run: ("bnb",) if spec.hyperparameters.load_in_4bit else ()),
    Flag("quant_bits", lambda spec, _run: ("4",) if spec.hyperparameters.load_in_4bit else ()),
)

# What every run needs here, whatever a person would have typed.
PLATFORM: Sequence[Flag] = (
    # A bad row ends the run; without it, it is left out or replaced by a random other one.
    Flag("strict", _one(lambda spec: spec.strict)),
    # Rows too long are cut, as with QLoRA; ms-swift's own default leaves them out. With
    # pictures in them they cannot be cut, and were taken out before.
    Flag(
        "truncation_strategy",
        lambda spec, _run: () if spec.model_kind is ModelKind.VLM else ("right",),
    ),
    Flag("lazy_tokenize", _lazy_tokenize),
    # A NaN is to be seen, not replaced by the mean before it.
    Flag("logging_nan_inf_filter", lambda _spec, _run: ("false",)),
    # Saves at SIGTERM, after the step under way.
    Flag("callbacks", lambda _spec, _run: ("graceful_exit",), (4,)),
    # Writes into output_dir itself, where a later attempt finds it.
    Flag("add_version", lambda _spec, _run: ("false",)),
    Flag("report_to", lambda _spec, _run: ("none",)),
    # Else it asks ModelScope whether a local model is the latest, and waits for the answer.
    Flag("check_model", lambda _spec, _run: ("false",)),
    Flag(
        "use_cpu",
        lambda spec, _run: ("true",) if spec.resources.accelerator is Accelerator.CPU else (),
    ),
    Flag("resume_from_checkpoint", lambda _spec, run: _words(run.resume_from)),
)

PLATFORM_FLAGS: Mapping[str, Flag] = MappingProxyType({flag.name: flag for flag in PLATFORM})
"""By name: what a command typed by a person does not have."""
