"""What ms-swift prints when it fails, and what is made of it.

The files in swift_output/ hold the last lines of the output, paths changed. All
but those in REPORTED were recorded from ms-swift 4.6.0 (the launcher's from
torch 2.13 alone). Those take GPUs to bring about: they are put together after
reports in ms-swift's own issues (#3399 and #5943, #5409).
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from trainer_svc.domain.classify import EndFacts, ExitRecord, classify
from trainer_svc.domain.runs import Cause, Failure

FOLDER = Path(__file__).parent / "swift_output"
FAILED = ExitRecord(1, None, killed_by_us=False)
OUT_OF_MEMORY = ExitRecord(1, None, killed_by_us=False, oom_kills=1)
REPORTED = {"cuda_out_of_memory", "nccl_timeout"}


def failure_of(tail: str, exited: ExitRecord = FAILED) -> Failure:
    ending = classify(EndFacts(exited, tail=tail))
    assert ending.failure is not None
    return ending.failure


# Name of the file, cause, a part of the message, a part of the hint.
CASES = [
    ("missing_data", Cause.DATASET_INVALID, "`/data/none.jsonl`", "path"),
    ("max_length_strict", Cause.DATASET_INVALID, "row(90) is larger", "Raise max_length"),
    ("missing_model", Cause.MODEL_INVALID, "'/models/none' not found", "path or hub id"),
    ("broken_safetensors", Cause.MODEL_INVALID, "header too large", "damaged or cut off"),
    ("truncated_safetensors", Cause.MODEL_INVALID, "not fully covered", "damaged or cut off"),
    ("not_an_adapter", Cause.MODEL_INVALID, "is not an adapter", "all of its files"),
    ("hub_model_offline", Cause.NETWORK, "Failed to resolve 'modelscope.cn'", "reaches the hub"),
    ("unknown_flag", Cause.CONFIG_INVALID, "['--nonsense', '1']", "version of ms-swift"),
    ("ambiguous_model_type", Cause.CONFIG_INVALID, "'qwen3_emb'", "swift.model_type"),
    ("ambiguous_template", Cause.CONFIG_INVALID, "'mimo_vl'", "--swift template=NAME"),
    ("model_type_unknown_to_swift", Cause.CONFIG_INVALID, "no suitable", "qlora backend"),
    ("pictures_of_several_sizes", Cause.CONFIG_INVALID, "size 5 but got size 8", "to 1"),
    ("missing_package", Cause.ENVIRONMENT_INVALID, "was not found", "Install qwen_vl_utils in ms-"),
    ("missing_torchvision", Cause.ENVIRONMENT_INVALID, "'torchvision'", "module torchvision"),
    ("unknown_model_type", Cause.CONFIG_INVALID, "'no_such_type'", "swift.model_type"),
    ("unknown_template", Cause.CONFIG_INVALID, "'no_such'", "swift.template"),
    ("bf16_refused", Cause.CONFIG_INVALID, "bf16/gpu", "Set bf16 to false"),
    ("no_target_modules", Cause.CONFIG_INVALID, "{'nothing_like_it'}", "all-linear"),
    ("packing_without_flash", Cause.CONFIG_INVALID, "flash attention", "Set packing to false"),
    ("bad_optim", Cause.ENVIRONMENT_INVALID, "install `bitsandbytes`", "Install what is missing"),
    ("quant_no_bnb", Cause.ENVIRONMENT_INVALID, "requires bitsandbytes", "Install what is"),
    ("disk_full", Cause.DISK_FULL, "unexpected pos 6848 vs 6740", "Free space"),
    ("cuda_out_of_memory", Cause.GPU_OUT_OF_MEMORY, "Tried to allocate 2.63 GiB", "batch_size"),
    ("nccl_timeout", Cause.DISTRIBUTED, "Watchdog caught collective", "other ranks"),
    ("torchrun_killed", Cause.CRASHED, "ended by SIGKILL from outside", "last checkpoint"),
]


@pytest.mark.parametrize(("name", "cause", "message", "hint"), CASES)
def test_the_end_of_the_output_names_the_cause(
    name: str, cause: Cause, message: str, hint: str
) -> None:
    failure = failure_of((FOLDER / f"{name}.txt").read_text())

    assert failure.cause is cause
    assert message in failure.message
    assert hint in failure.hint


def test_every_recorded_output_is_judged_and_every_reported_one_is_there() -> None:
    recorded = {path.stem for path in FOLDER.iterdir()}

    assert recorded == {name for name, *_ in CASES}
    assert recorded >= REPORTED


def test_a_worker_that_the_memory_killer_ended_is_told_as_such() -> None:
    tail = (FOLDER / "torchrun_killed.txt").read_text()

    failure = failure_of(tail, OUT_OF_MEMORY)

    assert failure.cause is Cause.HOST_OUT_OF_MEMORY
    assert "ran out of memory" in failure.message


@pytest.mark.parametrize(
    ("code", "cause", "message"),
    [
        (128 + signal.SIGKILL, Cause.CRASHED, "SIGKILL from outside"),
        (128 + signal.SIGSEGV, Cause.CRASHED, "ended by SIGSEGV"),
    ],
)
def test_a_trainer_that_a_signal_ended_while_it_trained_has_crashed(
    code: int, cause: Cause, message: str
) -> None:
    tail = "Train:  38%|███▊      | 6/16 [00:01<00:01,  6.34it/s]\n{'loss': '8.294'}\n"

    failure = failure_of(tail, ExitRecord(code, None, killed_by_us=False))

    assert failure.cause is cause
    assert message in failure.message
    assert "last checkpoint" in failure.hint


def test_a_trainer_that_the_memory_killer_ended_ran_out_of_memory() -> None:
    exited = ExitRecord(128 + signal.SIGKILL, None, killed_by_us=False, oom_kills=1)

    assert failure_of("{'loss': '8.294'}\n", exited).cause is Cause.HOST_OUT_OF_MEMORY


@pytest.mark.parametrize("code", [139, 134, 1])
def test_what_ms_swift_prints_in_every_run_is_not_why_it_died(code: int) -> None:
    tail = (
        "[WARNING:swift] Loading model from '/models/a' with trust_remote_code=True. This will"
        " execute custom Python code shipped in the model repository\n"
        "[WARNING:datasets] `trust_remote_code` is not supported anymore.\n"
        "Train:  40%|####      | 40/100 [00:04<00:06, 9.8it/s]\n"
    )

    failure = failure_of(tail, ExitRecord(code, None, killed_by_us=False))

    assert failure.cause is Cause.CRASHED
    assert "remote" not in failure.message
