"""How many optimizer steps a run has, known before the first.

Pure; the same arithmetic as transformers' Trainer, which is held against it
when training begins.
"""

import math

from tunewright.v1.spec_pb2 import Hyperparameters


def steps_per_epoch(rows: int, wanted: Hyperparameters) -> int:
    """Optimizer steps in one pass over `rows` rows (sequences, where rows are packed)."""
    batches = math.ceil(rows / wanted.per_device_train_batch_size)
    return max(1, math.ceil(batches / wanted.gradient_accumulation_steps))


def total_steps(rows: int, wanted: Hyperparameters) -> int:
    """Optimizer steps in the whole run."""
    if wanted.max_steps > 0:
        return wanted.max_steps
    return math.ceil(wanted.num_train_epochs * steps_per_epoch(rows, wanted))
