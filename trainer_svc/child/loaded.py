"""What is reported of a model once its weights are loaded and LoRA is on it.

Owns the words of MODEL_LOADED, and of EXPERTS_UNPACKED, the warning that packed
experts will be held unpacked. Everything here was read from the modules as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.v1.feed_pb2 import SEVERITY_WARNING

from trainer_svc.child.hardware import Hardware
from trainer_svc.child.model import BaseModel
from trainer_svc.child.spool import Spool
from trainer_svc.child.weights_account import Account, in_units


@dataclass(frozen=True)
class Loaded:
    """A model ready to be trained. `reached`: modules with LoRA by kind."""

    base: BaseModel
    hardware: Hardware
    account: Account
    trainable: int
    reached: Mapping[str, int]


def report_loaded(spool: Spool, loaded: Loaded) -> None:
    """Raises OSError."""
    account, hardware = loaded.account, loaded.hardware
    total = account.parameters + loaded.trainable
    lora = ", ".join(f"{count} {kind}" for kind, count in sorted(loaded.reached.items()))
    spool.event(
        "MODEL_LOADED",
        f"loaded on {hardware.name}: {total:,} parameters, {loaded.trainable:,} of them trained;"
        f" {account.sentence()}; LoRA on {lora} modules",
        parameters=total,
        parameters_trainable=loaded.trainable,
        device=hardware.name,
        quantisation=account.quantisation,
        quantised_bytes=_pairs(account.packed_bytes),
        full_precision_bytes=_pairs(account.full_bytes),
        experts_unpacked_bytes_max=account.unpacked_bytes_max,
        lora_modules=_pairs(loaded.reached),
        bf16=hardware.bf16,
        gradient_checkpointing=hardware.gradient_checkpointing,
        revision=loaded.base.revision,
    )
    if account.unpacked_bytes and not hardware.gradient_checkpointing:
        spool.event(
            "EXPERTS_UNPACKED",
            f"gradient_checkpointing is off, so the experts of all layers stay in memory unpacked"
            f" ({in_units(account.unpacked_bytes)}) from the forward to the backward pass; with it,"
            f" one layer's do ({in_units(account.unpacked_bytes_max)})",
            SEVERITY_WARNING,
            bytes=account.unpacked_bytes,
            bytes_max=account.unpacked_bytes_max,
        )


def _pairs(values: Mapping[str, int]) -> str:
    """ "experts=5, linear=7"."""
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))
