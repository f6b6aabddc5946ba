"""What only the trainer's disk can tell: FAILED, with a cause, a message that helps, a hint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tunewright import Client
from tunewright.v1 import job_pb2

from tests.support.assets import Assets
from tests.support.stack import Stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

DIALOGUE = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


def outcome(client: Client, assets: Assets, case: str, **changed: object) -> job_pb2.Job:
    wanted = {
        "model": assets.model,
        "train_data": [assets.train],
        "output_dir": f"bad/{case}",
        "accelerator": "cpu",
        "hyperparameters": {"max_steps": 1},
        **changed,
    }
    return client.jobs.create(**wanted).wait(timeout=120).proto  # type: ignore[arg-type]


def written(stack: Stack, name: str, text: str) -> str:
    path = stack.root / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def assert_failed(job: job_pb2.Job, cause: str, *words: str) -> None:
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job_pb2.FailureCause.Name(job.failure.cause) == f"FAILURE_CAUSE_{cause}", job.failure
    for word in words:
        assert word in job.failure.message, job.failure.message
    assert job.failure.hint
    assert job.attempt == 1, "such a job is never retried"


def test_a_model_folder_that_does_not_exist(client: Client, stack: Stack, assets: Assets) -> None:
    missing = str(stack.root / "no-model")

    job = outcome(client, assets, "no-model", model=missing)

    assert_failed(job, "MODEL_INVALID", missing)


def test_a_model_outside_the_roots(client: Client, assets: Assets) -> None:
    job = outcome(client, assets, "outside-model", model="/usr/share")

    assert_failed(job, "MODEL_INVALID", "/usr/share", str(assets.folder))


def test_data_outside_the_roots_also_through_a_link(
    client: Client, stack: Stack, assets: Assets, tmp_path: Path
) -> None:
    (tmp_path / "secret.jsonl").write_text(json.dumps(DIALOGUE))
    link = stack.root / "link.jsonl"
    link.symlink_to(tmp_path / "secret.jsonl")

    job = outcome(client, assets, "outside-data", train_data=[str(link)])

    assert_failed(job, "DATASET_INVALID", "link.jsonl")


def test_a_data_file_that_does_not_exist(client: Client, stack: Stack, assets: Assets) -> None:
    job = outcome(client, assets, "no-data", train_data=[str(stack.root / "none.jsonl")])

    assert_failed(job, "DATASET_INVALID", "none.jsonl")


def test_a_malformed_row_is_named_by_file_and_line(
    client: Client, stack: Stack, assets: Assets
) -> None:
    path = written(stack, "torn.jsonl", json.dumps(DIALOGUE) + '\n{"messages": [\n')

    job = outcome(client, assets, "torn", train_data=[path])

    assert_failed(job, "DATASET_INVALID", "torn.jsonl:2")


def test_empty_data(client: Client, stack: Stack, assets: Assets) -> None:
    job = outcome(client, assets, "empty", train_data=[written(stack, "empty.jsonl", "")])

    assert_failed(job, "DATASET_INVALID", "empty.jsonl")


def test_every_row_too_long(client: Client, stack: Stack, assets: Assets) -> None:
    row = {"messages": [{"role": "user", "content": "word " * 500}, DIALOGUE["messages"][1]]}
    path = written(stack, "long.jsonl", "\n".join([json.dumps(row)] * 3))

    job = outcome(client, assets, "long", train_data=[path], hyperparameters={"max_length": 32})

    assert_failed(job, "DATASET_INVALID", "too long", "none of the 3", "32")


def test_an_output_folder_that_is_a_link(
    client: Client, stack: Stack, assets: Assets, tmp_path: Path
) -> None:
    stack.outputs.mkdir(exist_ok=True)
    (stack.outputs / "elsewhere").symlink_to(tmp_path)

    job = outcome(client, assets, "link", output_dir="elsewhere/result")

    assert_failed(job, "OUTPUT_INVALID", "elsewhere")
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_stands_there_already(
    client: Client, stack: Stack, assets: Assets
) -> None:
    (stack.outputs / "mine").mkdir(parents=True)
    (stack.outputs / "mine" / "notes.txt").write_text("keep me")

    job = outcome(client, assets, "mine", output_dir="mine")

    assert_failed(job, "OUTPUT_INVALID", "mine")
    assert (stack.outputs / "mine" / "notes.txt").read_text() == "keep me"


def test_a_module_that_the_model_does_not_have(client: Client, assets: Assets) -> None:
    job = outcome(client, assets, "module", hyperparameters={"target_modules": ["no_such_proj"]})

    assert_failed(job, "CONFIG_INVALID", "no_such_proj")
