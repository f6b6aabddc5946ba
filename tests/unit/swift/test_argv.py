"""The argv of ms-swift: golden for both major versions, and closed to everything else."""

from __future__ import annotations

import shlex

import pytest

from svckit.spec import InvalidSpec, JobSpec
from svckit.swift import SwiftRun, major_of, swift_argv
from svckit.swift.argv import EXTRAS, PLATFORM, PLATFORM_FLAGS, TRAINING, number

# As people who ran it by hand wrote it, word for word.
SEED_COMMAND = """
swift sft
    --model Qwen/Qwen2.5-7B-Instruct
    --train_type lora
    --dataset 'AI-ModelScope/alpaca-gpt4-data-zh#500'
              'AI-ModelScope/alpaca-gpt4-data-en#500'
              'swift/self-cognition#500'
    --torch_dtype bfloat16
    --num_train_epochs 1
    --per_device_train_batch_size 1
    --per_device_eval_batch_size 1
    --learning_rate 1e-4
    --lora_rank 8
    --lora_alpha 32
    --target_modules all-linear
    --gradient_accumulation_steps 16
    --eval_steps 50
    --save_steps 50
    --save_total_limit 2
    --logging_steps 5
    --max_length 2048
    --output_dir llm_test
    --system 'You are a helpful assistant.'
    --warmup_ratio 0.05
    --dataloader_num_workers 4
    --model_author swift
    --model_name swift-robot
"""
SEED_SPEC = {
    "backend": "swift",
    "model": {"name": "Qwen/Qwen2.5-7B-Instruct"},
    "train_data": [
        {"source": "AI-ModelScope/alpaca-gpt4-data-zh#500"},
        {"source": "AI-ModelScope/alpaca-gpt4-data-en#500"},
        {"source": "swift/self-cognition#500"},
    ],
    "system_prompt": "You are a helpful assistant.",
    "swift": {"model_author": "swift", "model_name": "swift-robot"},
    "resources": {"gpu_ids": ["0"]},
    "output_dir": "llm_test",
    "hyperparameters": {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "learning_rate": 1e-4,
        "lora_r": 8,
        "lora_alpha": 32,
        "gradient_accumulation_steps": 16,
        "eval_steps": 50,
        "save_steps": 50,
        "save_total_limit": 2,
        "logging_steps": 5,
        "max_length": 2048,
        "warmup_ratio": 0.05,
        "dataloader_num_workers": 4,
        "bf16": True,
        # What the command leaves to ms-swift.
        "weight_decay": 0.1,
    },
}
TINY_SPEC = {
    "backend": "swift",
    "model": {"name": "/models/tiny", "revision": "v1"},
    "train_data": [{"source": "/data/train.jsonl#7"}],
    "eval_data": [{"source": "/data/eval.jsonl"}],
    "model_kind": "vlm",
    "swift": {"model_type": "llava1_5_hf", "template": "llava1_5_hf", "max_pixels": 1003520},
    "resources": {"accelerator": "cpu"},
    "output_dir": "tiny",
    "strict": False,
    "hyperparameters": {
        "max_steps": 5,
        "learning_rate": 2.5e-5,
        "lora_dropout": 0,
        "target_modules": ["q_proj", "v_proj"],
        "load_in_4bit": True,
        "assistant_only_loss": False,
        "optim": "paged_adamw_8bit",
        "seed": 7,
    },
}


def words_of(argv: list[str], *, without: frozenset[str] = frozenset()) -> list[str]:
    """The argv less the flags named, and their words."""
    kept: list[str] = []
    keeping = True
    for word in argv:
        if word.startswith("--"):
            keeping = word[2:] not in without
        if keeping:
            kept.append(word)
    return kept


def test_for_3_the_argv_is_the_command_people_typed_and_platform_flags() -> None:
    spec = JobSpec.from_mapping(SEED_SPEC)

    argv = swift_argv(spec, SwiftRun(output_dir="llm_test"), 3)

    assert words_of(argv, without=frozenset(PLATFORM_FLAGS)) == shlex.split(SEED_COMMAND)


def test_the_platform_flags_are_these() -> None:
    spec = JobSpec.from_mapping(SEED_SPEC)

    argv = swift_argv(spec, SwiftRun(output_dir="llm_test"), 3)

    typed = shlex.split(SEED_COMMAND)
    assert argv[: len(typed)] == typed
    assert argv[len(typed) :] == shlex.split(
        "--strict true --truncation_strategy right --logging_nan_inf_filter false"
        " --add_version false --report_to none --check_model false"
    )


def test_for_4_only_what_4_calls_otherwise_differs() -> None:
    spec = JobSpec.from_mapping(SEED_SPEC)

    three = swift_argv(spec, SwiftRun(output_dir="llm_test"), 3)
    four = swift_argv(spec, SwiftRun(output_dir="llm_test"), 4)

    renamed = ["--tuner_type" if word == "--train_type" else word for word in three]
    assert words_of(four, without=frozenset({"callbacks"})) == renamed
    assert "--callbacks graceful_exit" in shlex.join(four)


def test_what_is_not_ms_swifts_default_is_said() -> None:
    spec = JobSpec.from_mapping(TINY_SPEC)
    run = SwiftRun(
        output_dir="/run/swift",
        train=("/run/train.jsonl",),
        evaluation=("/run/eval.jsonl",),
        resume_from="/run/resume/checkpoint-2",
    )

    argv = swift_argv(spec, run, 4)

    assert argv == shlex.split(
        "swift sft --model /models/tiny --tuner_type lora --dataset /run/train.jsonl"
        " --torch_dtype float32 --num_train_epochs 3 --per_device_train_batch_size 2"
        " --per_device_eval_batch_size 2 --learning_rate 2.5e-5 --lora_rank 16 --lora_alpha 32"
        " --target_modules q_proj v_proj --gradient_accumulation_steps 4 --save_steps 500"
        " --save_total_limit 2 --logging_steps 10 --max_length 1024 --output_dir /run/swift"
        " --warmup_ratio 0.03 --dataloader_num_workers 0 --fp16 false --model_revision v1"
        " --model_type llava1_5_hf --template llava1_5_hf --val_dataset /run/eval.jsonl"
        " --eval_strategy epoch --max_steps 5 --max_pixels 1003520 --lora_dropout 0"
        " --weight_decay 0 --seed 7 --data_seed 7 --gradient_checkpointing false"
        " --optim paged_adamw_8bit --loss_scale all --quant_method bnb --quant_bits 4"
        " --strict false --lazy_tokenize true --logging_nan_inf_filter false"
        " --callbacks graceful_exit --add_version false --report_to none"
        " --check_model false --use_cpu true --resume_from_checkpoint /run/resume/checkpoint-2"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"train_data": [{"source": "/data/a.json"}]}, ["true"]),
        ({"train_data": [{"source": "/data/a.json"}, {"source": "org/b"}]}, []),
        ({"train_data": [{"source": "org/b"}], "model_kind": "vlm"}, ["false"]),
        ({"train_data": [{"source": "/a.json"}], "eval_data": [{"source": "org/b"}]}, []),
        ({"train_data": [{"source": "/a.json"}], "hyperparameters": {"packing": True}}, []),
    ],
)
def test_only_rows_that_were_looked_at_are_encoded_as_they_come(
    changed: dict[str, object], words: list[str]
) -> None:
    spec = JobSpec.from_mapping({**SEED_SPEC, **changed})

    argv = swift_argv(spec, SwiftRun(output_dir="x"), 4)

    given = argv[argv.index("--lazy_tokenize") + 1 :][:1] if "--lazy_tokenize" in argv else []
    assert given == words


def test_plain_text_is_pre_training() -> None:
    texts = {**SEED_SPEC, "train_data": [{"source": "/data/a.txt.jsonl", "format": "text"}]}

    argv = swift_argv(JobSpec.from_mapping(texts), SwiftRun(output_dir="x"), 4)

    assert argv[:2] == ["swift", "pt"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", {"name": "--external_plugins"}),
        ("train_data", [{"source": "--custom_register_path"}]),
        ("system_prompt", "--custom_register_path /tmp/x.py"),
        ("system_prompt", "/etc/secret.txt"),
        ("swift", {"model_type": "--external_plugins"}),
        ("swift", {"model_name": "-x"}),
        ("swift", {"external_plugins": ["x.py"]}),
        ("hyperparameters", {"target_modules": ["--deepspeed"]}),
    ],
)
def test_no_value_can_become_a_flag_or_a_file(field: str, value: object) -> None:
    mapping = {**SEED_SPEC, field: value}

    with pytest.raises(InvalidSpec) as refused:
        JobSpec.from_mapping(mapping)

    assert f"spec.{field}" in refused.value.violations[0].field


def test_a_flag_stands_in_one_table_only() -> None:
    names = [flag.name for flag in (*TRAINING, *EXTRAS, *PLATFORM)]

    assert len(names) == len(set(names))
    forbidden = {"external_plugins", "custom_register_path", "custom_dataset_info", "model_kwargs"}
    assert not forbidden.intersection(names)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.05, "0.05"), (1e-4, "1e-4"), (2.5e-5, "2.5e-5"), (0.001, "0.001"), (0, "0")],
)
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    written = number(value)

    assert written == text
    assert float(written) == value


@pytest.mark.parametrize(
    ("version", "major"), [("3.9.3", 3), ("4.6.0", 4), ("5.0", None), ("2.6.1", None), ("", None)]
)
def test_only_versions_with_known_flags_have_a_major(version: str, major: int | None) -> None:
    found = major_of(version)

    assert found == major
