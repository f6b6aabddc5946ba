"""Recipes with both clients and on the command line, against a real scheduler process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tunewright import AsyncClient, Client
from tunewright.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
)
from tunewright.v1 import spec_pb2
from tunewright.wire.reasons import Reason

from tests.support.stack import ServiceProcess

Tunewright = Callable[..., subprocess.CompletedProcess[str]]
DOCS = Path(__file__).parents[3] / "docs" / "recipes.md"
TEXT = """\
description: a tiny one
required: [output_dir]
overridable: {hyperparameters.lora_r: {maximum: 16}}
spec:
  model: {name: a/b}
  train_data: [{source: c/d}]
  resources: {accelerator: cpu}
  hyperparameters: {lora_r: 8}
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a scheduler with an empty database."""
    url = f"sqlite:///{tmp_path / 'scheduler.db'}"
    service = ServiceProcess("scheduler_svc", ["--database-url", url], tmp_path / "scheduler")
    try:
        yield service.start().address
    finally:
        service.stop()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


@pytest.fixture
async def async_client(address: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address) as opened:
        yield opened


@pytest.fixture
def tunewright(address: str, tmp_path: Path) -> Tunewright:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunewright", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "TUNEWRIGHT_ADDRESS": address, "TZ": "UTC"},
            cwd=tmp_path,
        )

    return run


def test_the_client_stores_changes_and_removes_recipes(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TEXT, encoding="utf-8")

    checked = client.recipes.create("tiny", TEXT, validate_only=True)
    made = client.recipes.create("tiny", file)
    changed = client.recipes.update("tiny", TEXT.replace("8", "4"), version=1)

    assert (checked.version, made.version, changed.version) == (0, 1, 2)
    assert client.recipes.get("tiny") == client.recipes.get("recipes/tiny@2") == changed
    assert client.recipes.get("tiny@1").yaml == TEXT
    names = [one.name for one in client.recipes.list(page_size=2)]
    assert names == sorted(names)
    assert {"recipes/llm-swift", "recipes/tiny"} <= set(names)
    client.recipes.delete("tiny")
    with pytest.raises(NotFound) as caught:
        client.recipes.get("tiny")
    assert caught.value.reason == Reason.RECIPE_NOT_FOUND


def test_each_refusal_is_an_exception_of_its_own(client: Client) -> None:
    client.recipes.create("tiny", TEXT)
    client.recipes.update("tiny", TEXT)

    with pytest.raises(Aborted) as changed:
        client.recipes.update("tiny", TEXT, version=1)
    with pytest.raises(AlreadyExists) as exists:
        client.recipes.create("tiny", TEXT)
    with pytest.raises(FailedPrecondition) as shipped:
        client.recipes.delete("llm-swift")
    with pytest.raises(InvalidRequest) as invalid:
        client.recipes.create("other", TEXT.replace("lora_r: 8", "lora_r: 32"))

    reasons = [one.value.reason for one in (changed, exists, shipped)]
    assert reasons == [Reason.RECIPE_CHANGED, Reason.RECIPE_EXISTS, Reason.RECIPE_READ_ONLY]
    [violation] = invalid.value.violations
    assert violation.field == "recipe.yaml: spec.hyperparameters.lora_r"


def test_a_job_from_a_recipe_says_where_it_is_from(client: Client) -> None:
    job = client.jobs.create(recipe="llm-swift", gpu_ids=[0], output_dir="one")
    pinned = client.jobs.create(recipe="recipes/llm-swift@1", gpu_ids=[0], output_dir="two")

    assert job.recipe == pinned.recipe == "recipes/llm-swift@1"
    assert job.spec.hyperparameters.save_steps == 50


def test_every_part_of_a_spec_can_be_an_override(client: Client) -> None:
    job = client.jobs.create(
        recipe="tiny-cpu-swift",
        model="/models/tiny",
        train_data="/data/rows.jsonl",
        output_dir="one",
        model_kind="vlm",
        swift={"model_type": "llava1_5_hf", "template": "llava1_5_hf"},
        strict=False,
        max_dropped_fraction=0.5,
    )

    assert job.spec.model_kind == spec_pb2.MODEL_KIND_VLM
    assert (job.spec.swift.model_type, job.spec.swift.template) == ("llava1_5_hf", "llava1_5_hf")
    assert (job.spec.strict, job.spec.max_dropped_fraction) == (False, 0.5)


async def test_the_asyncio_client_is_the_same(async_client: AsyncClient) -> None:
    made = await async_client.recipes.create("tiny", TEXT)
    changed = await async_client.recipes.update("tiny", TEXT, version=1)
    job = await async_client.jobs.create(recipe="tiny", output_dir="o")

    assert await async_client.recipes.get("tiny@1") == made
    assert [one.name async for one in async_client.recipes.list(page_size=1)].count(made.name) == 1
    assert job.recipe == f"{changed.name}@2"
    await async_client.recipes.delete("tiny")
    with pytest.raises(NotFound):
        await async_client.recipes.get("tiny")


def test_the_recipe_in_the_docs_can_be_created_and_used(client: Client) -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)

    made = client.recipes.create("support", text)
    job = client.jobs.create(recipe="support", train_data="/data/rows.json", output_dir="first")

    assert list(made.required_fields) == ["train_data", "output_dir"]
    assert job.spec.train_data[0].format == spec_pb2.DATA_FORMAT_SHAREGPT
    with pytest.raises(InvalidRequest) as caught:
        client.jobs.create(
            recipe="support",
            train_data="/data/rows.json",
            output_dir="second",
            hyperparameters={"lora_r": 64, "learning_rate": 0.1},
        )
    # The two lines that the page shows, where the command line names options for fields.
    shown = DOCS.read_text(encoding="utf-8")
    for one in caught.value.violations:
        name = one.field.rpartition(".")[2]
        assert f"error: --set {name}=...: {one.description}\n" in shown


def test_the_command_line_stores_shows_and_removes_recipes(
    tunewright: Tunewright, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(TEXT, encoding="utf-8")

    checked = tunewright("recipes", "create", "tiny.yaml", "--validate-only")
    made = tunewright("recipes", "create", "tiny.yaml")
    changed = tunewright("recipes", "update", "tiny.yaml", "--version", "1")
    late = tunewright("recipes", "update", "tiny.yaml", "--version", "1")
    table = tunewright("recipes", "list")
    page = tunewright("recipes", "show", "tiny@1")
    text = tunewright("recipes", "show", "tiny", "--yaml")
    removed = tunewright("recipes", "delete", "tiny")

    assert checked.stdout == "recipes/tiny  valid, nothing was stored\n"
    assert made.stdout == "recipes/tiny  version 1\n"
    assert changed.stdout == "recipes/tiny  version 2\n"
    assert (late.returncode, late.stdout) == (1, "")
    assert "recipes/tiny@1 is not the latest any more, version 2 is" in late.stderr
    rows = {line.split()[0]: line for line in table.stdout.splitlines()}
    assert rows["llm-swift"].split()[1:3] == ["1", "(shipped)"]
    assert rows["tiny"].endswith("output_dir                                 a tiny one")
    assert "must be given  output_dir" in page.stdout
    assert "may be given   hyperparameters.lora_r  at most 16" in page.stdout
    assert text.stdout == TEXT
    assert removed.stdout == "recipes/tiny  removed\n"


def test_the_command_line_prints_recipes_as_json(tunewright: Tunewright) -> None:
    lines = tunewright("recipes", "list", "--json").stdout.splitlines()
    one = json.loads(tunewright("recipes", "show", "llm-swift", "--json").stdout)

    assert one in [json.loads(line) for line in lines]
    assert one["spec"]["swift"]["model_author"] == "swift"


def test_a_bad_recipe_is_a_line_for_each_field(tunewright: Tunewright, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(TEXT.replace("lora_r", "lora_rank"), encoding="utf-8")

    done = tunewright("recipes", "create", "bad.yaml")
    missing = tunewright("recipes", "create", "none.yaml")

    assert done.returncode == 2
    meant = "did you mean 'hyperparameters.lora_r'?"
    assert done.stderr.splitlines() == [
        f"error: overridable.hyperparameters.lora_rank: is no field of a spec; {meant}",
        "error: spec.hyperparameters.lora_rank: unknown field; did you mean 'lora_r'?",
    ]
    assert (missing.returncode, missing.stderr) == (
        2,
        "error: none.yaml: No such file or directory\n",
    )


def test_a_job_from_a_recipe_needs_only_its_gpu_and_its_folder(tunewright: Tunewright) -> None:
    done = tunewright(
        "jobs", "create", "--recipe", "llm-swift", "--gpu", "0", "--output-dir", "llm_test",
        "--id", "mine",
    )  # fmt: skip
    table = tunewright("jobs", "list", "--filter", "recipe:llm-swift@")
    page = tunewright("jobs", "get", "mine").stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("jobs/mine  QUEUED")
    header, row = (line.split() for line in table.stdout.splitlines())
    assert header[:3] == ["JOB", "STATE", "PROGRESS"]
    assert {"LLM", "llm-swift@1", "Qwen2.5-7B-Instruct"} <= set(row)
    assert "recipe      recipes/llm-swift@1" in page
    assert "kind        LLM" in page


def test_a_folder_is_named_after_the_recipe_where_none_is_given(tunewright: Tunewright) -> None:
    done = tunewright("jobs", "create", "--recipe", "llm-swift@1", "--gpu", "0", "--json")

    assert json.loads(done.stdout)["spec"]["output_dir"].startswith("llm-swift-20")


@pytest.mark.parametrize("overridable", ["", "overridable: {output_dir: }"])
def test_a_recipe_s_own_folder_is_taken_where_none_is_given(
    tunewright: Tunewright, client: Client, overridable: str
) -> None:
    text = TEXT.replace("spec:", "spec:\n  output_dir: ours")
    text = text.replace("required: [output_dir]", "required: []")
    text = re.sub("overridable: .*", overridable, text)
    client.recipes.create("tiny", text)

    done = tunewright("jobs", "create", "--recipe", "tiny", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["spec"]["output_dir"] == "ours"


def test_what_is_typed_empty_is_refused_with_a_recipe(tunewright: Tunewright) -> None:
    done = tunewright(
        "jobs", "create", "--recipe", "tiny-cpu-swift", "--model", "a/b", "--data", "c/d",
        "--output-dir", "", "--system-prompt", "", "--set", "target_modules=",
        "--swift", "template=", "--attempts", "0", "--gpus", "0",
    )  # fmt: skip

    told = "cannot be made empty; with a recipe, an empty value or 0 is the same as none"
    assert done.returncode == 2
    assert sorted(done.stderr.splitlines()) == [
        f"error: --attempts: {told}",
        f"error: --gpus: {told}",
        f"error: --output-dir: {told}",
        f"error: --set target_modules=...: {told}",
        f"error: --swift template=...: {told}",
        f"error: --system-prompt: {told}",
    ]


def test_a_refused_override_is_printed_with_its_option(tunewright: Tunewright) -> None:
    done = tunewright(
        "jobs", "create", "--recipe", "llm-swift", "--set", "lora_r=64", "--no-strict",
        "--output-dir", "o",
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --set lora_r=...: recipe llm-swift does not let it be changed",
        "error: --strict: recipe llm-swift does not let it be changed",
        "error: --gpu: is required by recipe llm-swift",
    ]


def test_validate_only_prints_a_command_that_a_shell_takes(tunewright: Tunewright) -> None:
    arguments = ("jobs", "create", "--recipe", "llm-swift", "--gpu", "0", "--validate-only")

    done = tunewright(*arguments)
    record = json.loads(tunewright(*arguments, "--json").stdout)

    _, _, command = done.stdout.partition("command\n")
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split("\0")[:-1] == record["plan"]["argv"]
    assert record["plan"]["argv"][:2] == ["swift", "sft"]
    lines = [line.strip() for line in command.splitlines()]
    assert lines[0] == "swift sft \\"
    assert all(line.startswith("--") for line in lines[1:])
    assert "--system 'You are a helpful assistant.' \\" in lines
    assert "--learning_rate 1e-4 \\" in lines


def test_what_only_ms_swift_knows_is_typed_as_its_fields_are(tunewright: Tunewright) -> None:
    done = tunewright(
        "jobs", "create", "--recipe", "tiny-cpu-swift", "--model", "a/b", "--data", "c/d",
        "--format", "prompt-completion", "--model-kind", "vlm", "--swift", "use_hf=true",
        "--swift", "max_pixels=200704", "--max-dropped-fraction", "0.25", "--no-strict", "--json",
    )  # fmt: skip

    spec = json.loads(done.stdout)["spec"]
    assert spec["model_kind"] == "MODEL_KIND_VLM"
    assert spec["train_data"][0]["format"] == "DATA_FORMAT_PROMPT_COMPLETION"
    assert (spec["swift"]["use_hf"], spec["swift"]["max_pixels"]) == (True, 200704)
    assert (spec["max_dropped_fraction"], spec["strict"]) == (0.25, False)
