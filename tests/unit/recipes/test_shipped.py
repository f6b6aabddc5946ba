"""The recipes that come with Tunewright: each does what it promises."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from svckit.recipes import SHIPPED, parse_recipe, resolve
from svckit.refusal import InvalidRequest
from svckit.spec import Accelerator, Backend, DataFormat, JobSpec, ModelKind
from svckit.swift import SwiftRun, swift_argv

# Version and begin of the sha256 of what each says, comments aside. A file that says something
# else is another version: raise it in svckit/recipes/shipped.py, and write the new pair here.
CONTENTS = {
    "dialogue-qlora": (1, "e28b10cd57c72fa8"),
    "llm-swift": (1, "ff7d941a43d572c9"),
    "tiny-cpu-qlora": (1, "c47d4f54e1402530"),
    "tiny-cpu-swift": (1, "d402687b4745f1da"),
    "vlm-swift": (2, "5f240cd5a717b6d6"),
}
# The one fixed way, word by word; ms-swift 4 calls --train_type --tuner_type.
SEED_COMMAND = [
    "swift", "sft",
    "--model", "Qwen/Qwen2.5-7B-Instruct",
    "--train_type", "lora",
    "--dataset", "AI-ModelScope/alpaca-gpt4-data-zh#500", "AI-ModelScope/alpaca-gpt4-data-en#500",
    "swift/self-cognition#500",
    "--torch_dtype", "bfloat16",
    "--num_train_epochs", "1",
    "--per_device_train_batch_size", "1",
    "--per_device_eval_batch_size", "1",
    "--learning_rate", "1e-4",
    "--lora_rank", "8",
    "--lora_alpha", "32",
    "--target_modules", "all-linear",
    "--gradient_accumulation_steps", "16",
    "--eval_steps", "50",
    "--save_steps", "50",
    "--save_total_limit", "2",
    "--logging_steps", "5",
    "--max_length", "2048",
    "--output_dir", "llm_test",
    "--system", "You are a helpful assistant.",
    "--warmup_ratio", "0.05",
    "--dataloader_num_workers", "4",
    "--model_author", "swift",
    "--model_name", "swift-robot",
]  # fmt: skip


def resolved(recipe_id: str, **given: Any) -> JobSpec:
    return resolve(SHIPPED[recipe_id].recipe, recipe_id, {"output_dir": "llm_test", **given})


def refused_fields(recipe_id: str, **given: Any) -> set[str]:
    with pytest.raises(InvalidRequest) as caught:
        resolve(SHIPPED[recipe_id].recipe, recipe_id, given)
    return {one.field.removeprefix("job.spec.") for one in caught.value.violations}


def test_every_file_is_shipped_and_every_shipped_one_has_its_file():
    files = {Path(one.name).stem for one in resources.files("svckit.recipes").iterdir()
             if one.name.endswith(".yaml")}  # fmt: skip

    assert files == set(SHIPPED) == set(CONTENTS)
    assert list(SHIPPED) == sorted(SHIPPED)


@pytest.mark.parametrize("recipe_id", sorted(SHIPPED))
def test_a_shipped_recipe_that_says_something_else_is_another_version(recipe_id):
    recipe = parse_recipe(SHIPPED[recipe_id].yaml)
    said = [
        recipe.required,
        {path: [allowed.minimum, allowed.maximum] for path, allowed in recipe.overridable.items()},
        recipe.values,
        recipe.patterns,
    ]

    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    assert (SHIPPED[recipe_id].version, digest[:16]) == CONTENTS[recipe_id]


def test_llm_swift_gives_the_fixed_command_and_leaves_only_place_and_folder():
    spec = resolved("llm-swift", resources={"gpu_ids": ["0"]})

    argv = swift_argv(spec, SwiftRun(output_dir=spec.output_dir), major=3)

    assert argv[: len(SEED_COMMAND)] == SEED_COMMAND
    assert list(spec.resources.gpu_ids) == ["0"]
    assert SHIPPED["llm-swift"].recipe.overridable == {}
    assert refused_fields("llm-swift") == {"resources.gpu_ids", "output_dir"}
    assert refused_fields(
        "llm-swift",
        output_dir="o",
        resources={"gpu_ids": ["0"], "gpu_count": 1},
        hyperparameters={"lora_r": 8},
    ) == {"hyperparameters.lora_r", "resources.gpu_count"}


def test_llm_swift_writes_out_what_ms_swift_takes_by_itself():
    values = SHIPPED["llm-swift"].recipe.values["hyperparameters"]

    # lora_dropout, lr_scheduler_type, weight_decay, seed, gradient_checkpointing: ms-swift 4.6's
    # own; max_grad_norm: transformers'.
    assert {
        "lora_dropout": 0.05,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "seed": 42,
        "gradient_checkpointing": True,
        "load_in_4bit": False,
        "assistant_only_loss": True,
    }.items() <= values.items()


def test_vlm_swift_takes_pictures_and_leaves_the_values_open():
    given = {"train_data": [{"source": "/d.jsonl"}], "resources": {"gpu_ids": ["1", "2"]}}

    spec = resolved(
        "vlm-swift",
        **given,
        eval_data=[{"source": "/e.jsonl"}],
        hyperparameters={"lora_r": 64},
        system_prompt="Look.",
        swift={"max_pixels": 200_704},
        strict=False,
        max_dropped_fraction=0.5,
        run_timeout_seconds=60.0,
        retry_policy={"attempts_max": 1},
    )

    assert (spec.backend, spec.model_kind) == (Backend.SWIFT, ModelKind.VLM)
    assert spec.model.name == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert (spec.resources.gpu_count, spec.hyperparameters.lora_r) == (2, 64)
    assert spec.swift is not None
    assert (spec.swift.max_pixels, spec.swift.freeze_vit) == (200_704, True)
    assert refused_fields("vlm-swift") == {"train_data", "resources.gpu_ids", "output_dir"}
    assert refused_fields("vlm-swift", output_dir="o", **given, model={"name": "a/b"}) == {
        "model.name"
    }


def test_dialogue_qlora_reads_lccc_in_4_bits_with_seven_values_to_choose():
    spec = resolved(
        "dialogue-qlora",
        train_data=[{"source": "/LCCC-base.json"}],
        hyperparameters={
            "num_train_epochs": 1.0,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-4,
            "max_length": 256,
            "lora_r": 8,
            "lora_alpha": 16.0,
            "lora_dropout": 0.1,
        },
    )

    assert spec.model.name == "Qwen/Qwen3-0.6B"
    assert spec.train_data[0].format is DataFormat.LCCC
    assert spec.hyperparameters.load_in_4bit
    assert spec.hyperparameters.max_length == 256
    assert refused_fields(
        "dialogue-qlora",
        hyperparameters={"lora_r": 300, "learning_rate": 0.5, "lora_dropout": 0.9, "seed": 1},
    ) == {
        "train_data",
        "output_dir",
        "hyperparameters.lora_r",
        "hyperparameters.learning_rate",
        "hyperparameters.lora_dropout",
        "hyperparameters.seed",
    }


@pytest.mark.parametrize(
    ("recipe_id", "backend", "four_bits"),
    [("tiny-cpu-qlora", Backend.QLORA, True), ("tiny-cpu-swift", Backend.SWIFT, False)],
)
def test_a_tiny_one_takes_a_model_and_data_and_a_cpu_slot(recipe_id, backend, four_bits):
    spec = resolved(
        recipe_id, model={"name": "/models/tiny"}, train_data=[{"source": "/data/rows.jsonl"}]
    )

    assert spec.backend is backend
    assert spec.resources.accelerator is Accelerator.CPU
    assert spec.hyperparameters.load_in_4bit is four_bits
    assert spec.hyperparameters.gradient_checkpointing is False
    assert 0 < spec.hyperparameters.max_steps <= 50
    assert refused_fields(recipe_id) == {"model", "train_data", "output_dir"}


@pytest.mark.parametrize("recipe_id", ["tiny-cpu-qlora", "tiny-cpu-swift"])
def test_a_tiny_one_trains_for_the_epochs_that_are_asked_for(recipe_id):
    spec = resolved(
        recipe_id,
        model={"name": "/models/tiny"},
        train_data=[{"source": "/data/rows.jsonl"}],
        hyperparameters={"num_train_epochs": 2.0},
    )

    assert (spec.hyperparameters.num_train_epochs, spec.hyperparameters.max_steps) == (2.0, -1)
