"""What somebody meant by a name that does not exist.

Pure: imported by the SDK and by the services' own checks, so it brings in neither
grpc nor protobuf.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

# What people type first, where the spelling alone does not lead to the name.
# Among them the names of LLaMA-Factory, axolotl, ms-swift and older releases of TRL.
HABITS: Mapping[str, str] = {
    "accumulation_steps": "gradient_accumulation_steps",
    "alpha": "lora_alpha",
    "batch_size": "per_device_train_batch_size",
    "block_size": "max_length",
    "clip": "max_grad_norm",
    "cutoff_len": "max_length",
    "dropout": "lora_dropout",
    "epoch": "num_train_epochs",
    "epochs": "num_train_epochs",
    "eval_batch_size": "per_device_eval_batch_size",
    "grad_accum": "gradient_accumulation_steps",
    "grad_accum_steps": "gradient_accumulation_steps",
    "grad_clip": "max_grad_norm",
    "gradient_accumulation": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "lora_modules": "target_modules",
    "lora_rank": "lora_r",
    "lora_target": "target_modules",
    "lora_target_linear": "target_modules",
    "lora_target_modules": "target_modules",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "max_seq_len": "max_length",
    "max_seq_length": "max_length",
    "micro_batch_size": "per_device_train_batch_size",
    "model_max_length": "max_length",
    "n_epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "num_train_steps": "max_steps",
    "optimizer": "optim",
    "preprocessing_num_workers": "dataloader_num_workers",
    "quant_bits": "load_in_4bit",
    "quantization_bit": "load_in_4bit",
    "r": "lora_r",
    "rank": "lora_r",
    "sample_packing": "packing",
    "scheduler": "lr_scheduler_type",
    "sequence_len": "max_length",
    "steps": "max_steps",
    "train_on_inputs": "assistant_only_loss",
    "train_on_responses_only": "assistant_only_loss",
    "warmup": "warmup_ratio",
    "warmup_steps": "warmup_ratio",
}


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name nearest to what was written; None if nothing is near."""
    names = sorted(known)
    habit = HABITS.get(name.lower().replace("-", "_"))
    if habit in names:
        return habit
    close = get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    holding = [known_name for known_name in names if len(name) > 3 and name in known_name]
    return next(iter([*close, *holding]), None)
