"""No hyperparameter of the contract is without effect: each is read by what trains."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tunewright.v1.spec_pb2 import Hyperparameters

import trainer_svc.child
from svckit.spec import JobSpec
from svckit.swift import SwiftRun, swift_argv

NAMES = [field.name for field in Hyperparameters.DESCRIPTOR.fields]
CHILD = Path(trainer_svc.child.__path__[0])
# What the local variables with a job's values are called there.
OWNERS = {"wanted", "_wanted", "asked", "hyperparameters"}

# A value other than the default, and other than what makes it the default.
CHANGED: dict[str, object] = {
    "num_train_epochs": 1.5,
    "max_steps": 7,
    "per_device_train_batch_size": 3,
    "per_device_eval_batch_size": 5,
    "gradient_accumulation_steps": 3,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.2,
    "weight_decay": 0.3,
    "max_grad_norm": 0.7,
    "max_length": 77,
    "packing": True,
    "assistant_only_loss": False,
    "lora_r": 5,
    "lora_alpha": 7,
    "lora_dropout": 0.2,
    "target_modules": ["q_proj"],
    "load_in_4bit": True,
    "gradient_checkpointing": False,
    "logging_steps": 3,
    "eval_steps": 4,
    "save_steps": 6,
    "save_total_limit": 9,
    "seed": 5,
    "dataloader_num_workers": 2,
    "bf16": False,
    "optim": "sgd",
    "use_rslora": True,
    "use_dora": True,
    "neftune_noise_alpha": 5.0,
}


def attributes_read(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                name = owner.attr if isinstance(owner, ast.Attribute) else ""
                name = owner.id if isinstance(owner, ast.Name) else name
                if name in OWNERS:
                    yield node.attr


def argv_with(**hyperparameters: object) -> list[str]:
    spec = JobSpec.from_mapping(
        {
            "model": {"name": "/m"},
            "train_data": [{"source": "/d.jsonl"}],
            "eval_data": [{"source": "/e.jsonl"}],
            "backend": "swift",
            "output_dir": "o",
            "hyperparameters": hyperparameters,
        }
    )
    return swift_argv(spec, SwiftRun(output_dir="o"), 4)


def test_this_table_has_each_of_them() -> None:
    assert list(CHANGED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_qlora_child_reads_it(name: str) -> None:
    assert name in set(attributes_read(CHILD))


@pytest.mark.parametrize("name", NAMES)
def test_ms_swift_is_given_it(name: str) -> None:
    assert argv_with(**{name: CHANGED[name]}) != argv_with()
