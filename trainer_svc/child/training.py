"""The training itself: TRL's SFTTrainer under the hyperparameters of the job.

Owns how they map to the library's names and the trainer's few deviations from
it: LoRA stays float32, an evaluation never moves the random state (so that a
run which resumes is the run that was not interrupted), and an evaluation ends
early when the run is to stop.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from tunewright.v1.spec_pb2 import Hyperparameters

from trainer_svc.child.hardware import Hardware
from trainer_svc.child.steps import steps_per_epoch

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, ProcessorMixin


class EvaluationStopped(Exception):
    """The run is to stop; the evaluation under way is given up."""


@dataclass(frozen=True)
class TrainingData:
    """What to learn from and, or None, to be evaluated on: token ids, or rows that `collate`
    makes batches of."""

    train: "Dataset"
    evaluation: "Dataset | None"
    collate: Callable[[Any], dict[str, Any]] | None = None


class QloraTrainer(SFTTrainer):
    """SFTTrainer as this service uses it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        adapted: Any = self.model
        # TRL turns the adapter of a quantised model to bf16, which loses small updates.
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in the base class; nothing, if the run is to stop meanwhile."""
        try:
            with torch.random.fork_rng():
                return super().evaluate(*args, **kwargs)
        except EvaluationStopped:
            self.control.should_evaluate = False
            self.control.should_save = True
            self.control.should_training_stop = True
            return {}

    def create_model_card(self, *_args: Any, **_kwargs: Any) -> None:
        """None: the manifest says what a card would."""


def make_trainer(
    model: "PeftModel",
    processing: "PreTrainedTokenizerBase | ProcessorMixin",
    data: TrainingData,
    config: SFTConfig,
    callback: TrainerCallback,
) -> QloraTrainer:
    """Raises ValueError for values that the libraries refuse."""
    return QloraTrainer(
        model=model,
        args=config,
        train_dataset=data.train,
        eval_dataset=data.evaluation,
        processing_class=processing,
        data_collator=data.collate,
        callbacks=[callback],
    )


def training_config(
    wanted: Hyperparameters, hardware: Hardware, data: TrainingData, scratch: Path
) -> SFTConfig:
    """The hyperparameters under the library's names; checkpoints go to `scratch` first."""
    evaluate = data.evaluation is not None
    epoch_steps = steps_per_epoch(len(data.train), wanted)
    return SFTConfig(
        output_dir=str(scratch),
        num_train_epochs=wanted.num_train_epochs,
        max_steps=wanted.max_steps if wanted.max_steps > 0 else -1,
        per_device_train_batch_size=wanted.per_device_train_batch_size,
        per_device_eval_batch_size=wanted.per_device_eval_batch_size
        or wanted.per_device_train_batch_size,
        gradient_accumulation_steps=wanted.gradient_accumulation_steps,
        learning_rate=wanted.learning_rate,
        lr_scheduler_type=wanted.lr_scheduler_type,
        warmup_steps=wanted.warmup_ratio,  # below 1 the library takes it as a share
        weight_decay=wanted.weight_decay,
        max_grad_norm=wanted.max_grad_norm,
        max_length=wanted.max_length,
        packing=wanted.packing,
        dataset_kwargs={"skip_prepare_dataset": True},  # prepare.py has done it
        remove_unused_columns=data.collate is None,
        activation_checkpointing=hardware.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=wanted.logging_steps,
        # A NaN is to be seen, not replaced by the mean before it.
        logging_nan_inf_filter=False,
        eval_strategy="steps" if evaluate else "no",
        # An epoch's end by its step number, so that evaluation comes before the checkpoint.
        eval_steps=(wanted.eval_steps or epoch_steps) if evaluate else None,
        save_strategy="steps",
        save_steps=wanted.save_steps,
        save_total_limit=None,  # checkpoints.py rotates
        seed=wanted.seed,
        data_seed=wanted.seed,
        dataloader_num_workers=wanted.dataloader_num_workers,
        dataloader_pin_memory=not hardware.use_cpu,
        bf16=hardware.bf16,
        optim=wanted.optim,
        neftune_noise_alpha=wanted.neftune_noise_alpha
        if wanted.HasField("neftune_noise_alpha")
        else None,
        use_cpu=hardware.use_cpu,
        include_num_input_tokens_seen="non_padding",
        report_to="none",
        disable_tqdm=True,
    )


def diverged(values: dict[str, float]) -> str | None:
    """The first of `values` that is NaN or infinite, as "name = value"; None if none is."""
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name} = {value}"
    return None


def adapter_is_finite(model: torch.nn.Module) -> bool:
    """Whether no trained weight is NaN or infinite."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return all(bool(torch.isfinite(parameter).all()) for parameter in trained)
