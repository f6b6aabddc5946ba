"""The one validated job spec: what each field may be, and its default.

Owns every bound and default of spec.proto. Frozen: a spec is written once.
Serves the RPCs and recipe files, so it refuses unknown fields.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from svckit.spec import data_fields, text_rules
from svckit.spec.enums import Accelerator, Backend, DataFormat, ModelKind
from svckit.spec.invalid import InvalidSpec, violations_of

SECONDS_MAX = 315_576_000.0
"""Ten years: longer than any run, and short enough for every clock."""
VOCABULARY_LAYERS = frozenset({"embed_tokens", "lm_head"})
"""What most models call their input embeddings and their output layer."""
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


def _number(value: object) -> object:
    """Refuses `true` where a number belongs: Python would read it as 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not a truth value")
    return value


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Count = Annotated[Int, Field(ge=1, le=_INT32_MAX)]
ModuleName = Annotated[str, Field(min_length=1, max_length=256)]
GpuId = Annotated[str, BeforeValidator(lambda value: str(value) if _is_int(value) else value)]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class SpecPart(BaseModel):
    """What all parts of a spec share."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ModelSource(SpecPart):
    """The base model."""

    name: Annotated[str, Field(max_length=4096)]
    revision: Annotated[str, Field(max_length=256)] = ""

    _name_rule = field_validator("name")(text_rules.model_name)
    _revision_rule = field_validator("revision")(text_rules.without_control_characters)


class DataSource(SpecPart):
    """One data set."""

    source: Annotated[str, Field(max_length=4096)]
    format: Annotated[DataFormat, BeforeValidator(DataFormat.parse)] = DataFormat.UNSPECIFIED
    split: Annotated[str, Field(max_length=128)] = ""
    columns: dict[str, str] = {}

    _source_rule = field_validator("source")(text_rules.data_source)
    _split_rule = field_validator("split")(text_rules.without_control_characters)

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        data_format: DataFormat = info.data.get("format", DataFormat.UNSPECIFIED)
        return data_fields.columns(value, data_format)


class Hyperparameters(SpecPart):
    """Training values under their Hugging Face, TRL and PEFT names.

    None means a default that depends on the rest of the spec (load_in_4bit,
    gradient_checkpointing) or is known only on the trainer (bf16, eval_steps).
    """

    num_train_epochs: Annotated[Float, Field(gt=0)] = 3.0
    max_steps: Annotated[Int, Field(ge=-1, le=_INT64_MAX)] = -1
    per_device_train_batch_size: Annotated[Int, Field(ge=1, le=4096)] = 2
    per_device_eval_batch_size: Annotated[Int, Field(ge=1, le=4096)] | None = None
    gradient_accumulation_steps: Annotated[Int, Field(ge=1, le=65536)] = 4
    learning_rate: Annotated[Float, Field(gt=0, le=10)] = 2e-4
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Annotated[Float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[Float, Field(ge=0, le=1)] = 0.0
    max_grad_norm: Annotated[Float, Field(ge=0)] = 1.0
    max_length: Annotated[Int, Field(ge=8, le=1048576)] = 1024
    packing: bool = False
    assistant_only_loss: bool = True
    lora_r: Annotated[Int, Field(ge=1, le=1024)] = 16
    lora_alpha: Annotated[Float, Field(gt=0)] = 32.0
    lora_dropout: Annotated[Float, Field(ge=0, lt=1)] = 0.05
    target_modules: Annotated[tuple[ModuleName, ...], Field(min_length=1, max_length=256)] = (
        "all-linear",
    )
    load_in_4bit: bool | None = None
    gradient_checkpointing: bool | None = None
    logging_steps: Count = 10
    eval_steps: Count | None = None
    save_steps: Count = 500
    save_total_limit: Count = 2
    # numpy's generator takes 32 bits, and the trainer seeds that one too.
    seed: Annotated[Int, Field(ge=0, le=2**32 - 1)] = 42
    dataloader_num_workers: Annotated[Int, Field(ge=0, le=64)] = 0
    bf16: bool | None = None
    optim: Literal["adamw_torch", "paged_adamw_8bit", "adamw_8bit", "sgd", "adafactor"] = (
        "adamw_torch"
    )
    use_rslora: bool = False
    use_dora: bool = False
    neftune_noise_alpha: Annotated[Float, Field(gt=0, le=100)] | None = None

    @field_validator("per_device_eval_batch_size")
    @classmethod
    def _eval_like_train(cls, value: int | None, info: ValidationInfo) -> int | None:
        return value if value is not None else info.data.get("per_device_train_batch_size")

    @field_validator("target_modules")
    @classmethod
    def _check_modules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "all-linear" in value and len(value) > 1:
            raise ValueError("'all-linear' must stand alone")
        if len(set(value)) != len(value):
            raise ValueError("must name each module once")
        for module in value:
            text_rules.argument(module)
        return value


class Resources(SpecPart):
    """Where a job may run. gpu_count is always the real number: 0 on a CPU."""

    accelerator: Annotated[Accelerator, BeforeValidator(Accelerator.parse)] = Accelerator.GPU
    gpu_ids: Annotated[tuple[GpuId, ...], Field(max_length=64)] = ()
    gpu_count: Annotated[Int, Field(ge=0, le=64)] = 0
    gpu_memory_bytes_min: Annotated[Int, Field(ge=0, le=_INT64_MAX)] = 0
    trainer: str = ""

    _trainer_rule = field_validator("trainer")(text_rules.trainer_name)

    @field_validator("gpu_ids")
    @classmethod
    def _check_ids(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for index in value:
            text_rules.gpu_id(index)
        if len(set(value)) != len(value):
            raise ValueError("must name each GPU once")
        if value and info.data.get("accelerator") is Accelerator.CPU:
            raise ValueError("must be empty for a CPU job")
        return value

    @field_validator("gpu_count")
    @classmethod
    def _check_count(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("accelerator") is Accelerator.CPU:
            if value:
                raise ValueError("must be 0 for a CPU job")
            return 0
        ids = info.data.get("gpu_ids", ())
        if ids and value not in (0, len(ids)):
            raise ValueError(f"must be 0 or the number of gpu_ids ({len(ids)}); got {value}")
        return value or len(ids) or 1

    @field_validator("gpu_memory_bytes_min")
    @classmethod
    def _check_memory(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("accelerator") is Accelerator.CPU:
            raise ValueError("must be 0 for a CPU job")
        return value


class SwiftOptions(SpecPart):
    """What only ms-swift knows, under its names."""

    model_type: Annotated[str, Field(max_length=128)] = ""
    template: Annotated[str, Field(max_length=128)] = ""
    use_hf: bool = False
    model_author: Annotated[str, Field(max_length=256)] = ""
    model_name: Annotated[str, Field(max_length=256)] = ""
    max_pixels: Annotated[Int, Field(ge=784, le=_INT32_MAX)] | None = None
    freeze_vit: bool = True

    _name_rules = field_validator("model_type", "template")(text_rules.swift_name)
    _text_rules = field_validator("model_author", "model_name")(text_rules.argument)


class RetryPolicy(SpecPart):
    """When a failed attempt is followed by another."""

    attempts_max: Annotated[Int, Field(ge=1, le=10)] = 3
    backoff_seconds: Annotated[Float, Field(ge=0, le=86_400)] = 10.0


class JobSpec(SpecPart):
    """What a job is asked to do, checked, with every default filled in."""

    model: ModelSource
    train_data: Annotated[tuple[DataSource, ...], Field(min_length=1, max_length=100)]
    eval_data: Annotated[tuple[DataSource, ...], Field(max_length=100)] = ()
    backend: Annotated[Backend, BeforeValidator(Backend.parse)] = Backend.QLORA
    # Before hyperparameters: some of their defaults depend on backend and accelerator.
    resources: Resources = Resources()
    hyperparameters: Hyperparameters = Hyperparameters()
    run_timeout_seconds: Annotated[Float, Field(gt=0, le=SECONDS_MAX)] | None = None
    retry_policy: RetryPolicy = RetryPolicy()
    output_dir: str
    system_prompt: Annotated[str, Field(max_length=32_768)] = ""
    model_kind: Annotated[ModelKind, BeforeValidator(ModelKind.parse)] = ModelKind.LLM
    swift: SwiftOptions | None = None
    strict: bool = True
    max_dropped_fraction: Annotated[Float, Field(ge=0, le=1)] = 0.1

    _output_dir_rule = field_validator("output_dir")(text_rules.output_dir)
    _system_prompt_rule = field_validator("system_prompt")(text_rules.without_nul)

    @field_validator("hyperparameters")
    @classmethod
    def _without_vocabulary_layers(
        cls, value: Hyperparameters, info: ValidationInfo
    ) -> Hyperparameters:
        """Trained copies of them would make each adapter vocabulary x hidden size larger, come
        apart where the two are tied, and SFTTrainer does not take them."""
        named = [name for name in value.target_modules if name.split(".")[-1] in VOCABULARY_LAYERS]
        if named and info.data.get("backend") is Backend.QLORA:
            raise ValueError(
                f"target_modules: {', '.join(named)[:200]} cannot get LoRA with the qlora backend,"
                " because the layers of the vocabulary stay as they are; leave them out, or use"
                " 'all-linear'"
            )
        return value

    @field_validator("hyperparameters")
    @classmethod
    def _fill_in(cls, value: Hyperparameters, info: ValidationInfo) -> Hyperparameters:
        resources, backend = info.data.get("resources"), info.data.get("backend")
        chosen: dict[str, bool] = {}
        if value.gradient_checkpointing is None and resources is not None:
            chosen["gradient_checkpointing"] = resources.accelerator is Accelerator.GPU
        if value.load_in_4bit is None and backend is not None:
            chosen["load_in_4bit"] = backend is Backend.QLORA
        return value.model_copy(update=chosen)

    @field_validator("system_prompt")
    @classmethod
    def _sayable_to_swift(cls, value: str, info: ValidationInfo) -> str:
        """ms-swift takes it on its command line, where some texts mean something else."""
        if info.data.get("backend") is Backend.SWIFT:
            if value.startswith("-"):
                raise ValueError("must not begin with '-' for the swift backend")
            if value.endswith(".txt"):
                raise ValueError("must not end with '.txt' for the swift backend: it reads a file")
        return value

    @field_validator("swift")
    @classmethod
    def _only_for_swift(
        cls, value: SwiftOptions | None, info: ValidationInfo
    ) -> SwiftOptions | None:
        backend = info.data.get("backend")
        if value is not None and backend not in (Backend.SWIFT, None):
            raise ValueError("is only for the swift backend")
        return SwiftOptions() if value is None and backend is Backend.SWIFT else value

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], prefix: str = "spec") -> Self:
        """The spec that a parsed YAML or JSON file holds.

        Raises InvalidSpec with every bad field, each path below `prefix`.
        """
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            raise InvalidSpec.of(violations_of(error, cls, prefix)) from None

    def to_json(self) -> str:
        """The one spelling of this spec: sorted keys, every field present."""
        dumped = self.model_dump(mode="json")
        return json.dumps(dumped, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The spec that to_json wrote. Raises InvalidSpec."""
        return cls.from_mapping(json.loads(text))
