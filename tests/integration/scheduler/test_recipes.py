"""RecipeService, and jobs from recipes, over a real connection, on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tunewright.v1 import job_pb2, job_service_pb2, recipe_service_pb2, spec_pb2

from scheduler_svc.config import SchedulerConfig
from svckit.recipes import SHIPPED
from tests.integration.scheduler.conftest import sqlite_config
from tests.integration.scheduler.harness import (
    SchedulerHandle,
    connect,
    creation,
    refusal_of,
    running_scheduler,
)

TEXT = """\
description: a tiny one
required: [output_dir]
overridable:
  hyperparameters.learning_rate: {minimum: 1e-6, maximum: 1e-2}
  run_timeout_seconds:
spec:
  model: {name: a/b}
  train_data: [{source: c/d}]
  resources: {accelerator: cpu}
  hyperparameters: {lora_r: 8}
"""
Recipe = recipe_service_pb2.Recipe


@pytest.fixture(params=["config", "postgres_config"])
async def scheduler(request: pytest.FixtureRequest) -> AsyncIterator[SchedulerHandle]:
    config: SchedulerConfig = request.getfixturevalue(request.param)
    async with running_scheduler(config) as running:
        yield running


def new(yaml: str = TEXT, recipe_id: str = "tiny", **more: bool):
    return recipe_service_pb2.CreateRecipeRequest(
        recipe_id=recipe_id, recipe=Recipe(yaml=yaml), **more
    )


def change(yaml: str, version: int = 0, name: str = "recipes/tiny"):
    recipe = Recipe(name=name, yaml=yaml, version=version)
    return recipe_service_pb2.UpdateRecipeRequest(recipe=recipe)


async def got(scheduler: SchedulerHandle, name: str) -> Recipe:
    return await scheduler.recipes.GetRecipe(recipe_service_pb2.GetRecipeRequest(name=name))


async def listed(scheduler: SchedulerHandle, page_size: int = 0) -> list[Recipe]:
    found: list[Recipe] = []
    request = recipe_service_pb2.ListRecipesRequest(page_size=page_size)
    while True:
        page = await scheduler.recipes.ListRecipes(request)
        assert page_size == 0 or len(page.recipes) <= page_size
        found += page.recipes
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def delete(scheduler: SchedulerHandle, name: str) -> None:
    await scheduler.recipes.DeleteRecipe(recipe_service_pb2.DeleteRecipeRequest(name=name))


def job_from(recipe: str, output_dir: str = "out", **spec: Any) -> job_pb2.Job:
    return job_pb2.Job(recipe=recipe, spec=spec_pb2.JobSpec(output_dir=output_dir, **spec))


async def test_a_recipe_comes_back_with_what_its_yaml_says(scheduler):
    created = await scheduler.recipes.CreateRecipe(new())

    read = await got(scheduler, "recipes/tiny")

    assert read == created == await got(scheduler, "recipes/tiny@1")
    assert (read.name, read.version, read.yaml) == ("recipes/tiny", 1, TEXT)
    assert read.description == "a tiny one"
    assert list(read.required_fields) == ["output_dir"]
    rate, timeout = read.overridable_fields
    assert (rate.path, rate.minimum, rate.maximum) == ("hyperparameters.learning_rate", 1e-6, 1e-2)
    assert timeout.path == "run_timeout"
    assert not timeout.HasField("minimum")
    assert read.spec.hyperparameters.lora_r == 8
    assert read.spec.retry_policy.attempts_max == 3
    assert read.spec.output_dir == ""
    assert not read.read_only
    assert read.create_time == read.update_time


async def test_the_shipped_ones_are_there_and_stay_as_they_are(scheduler):
    found = await got(scheduler, "recipes/llm-swift")

    assert (found.read_only, found.version) == (True, 1)
    assert not found.HasField("create_time")
    assert found.spec.train_data[2].source == "swift/self-cognition#500"
    refused = [
        await refusal_of(scheduler.recipes.UpdateRecipe(change(TEXT, name="recipes/llm-swift"))),
        await refusal_of(delete(scheduler, "recipes/llm-swift")),
    ]
    assert {(one.code, one.reason) for one in refused} == {
        ("FAILED_PRECONDITION", "RECIPE_READ_ONLY")
    }
    taken = await refusal_of(scheduler.recipes.CreateRecipe(new(recipe_id="llm-swift")))
    assert (taken.code, taken.reason) == ("ALREADY_EXISTS", "RECIPE_EXISTS")
    missing = await refusal_of(got(scheduler, "recipes/llm-swift@2"))
    assert (missing.code, missing.reason) == ("NOT_FOUND", "RECIPE_NOT_FOUND")


async def test_versions_count_up_and_only_the_latest_is_changed(scheduler):
    await scheduler.recipes.CreateRecipe(new())

    second = await scheduler.recipes.UpdateRecipe(change(TEXT.replace("lora_r: 8", "lora_r: 9"), 1))
    late = await refusal_of(scheduler.recipes.UpdateRecipe(change(TEXT, 1)))
    third = await scheduler.recipes.UpdateRecipe(change(TEXT))

    assert (second.version, third.version) == (2, 3)
    assert (late.code, late.reason) == ("ABORTED", "RECIPE_CHANGED")
    assert late.metadata["version"] == "2"
    assert (await got(scheduler, "recipes/tiny@2")).spec.hyperparameters.lora_r == 9
    assert second.update_time.ToDatetime() > second.create_time.ToDatetime()


async def test_updates_at_once_each_make_a_version_of_their_own(scheduler):
    await scheduler.recipes.CreateRecipe(new())

    made = await asyncio.gather(
        *(scheduler.recipes.UpdateRecipe(change(TEXT.replace("8", str(n)))) for n in range(2, 6))
    )
    guarded = await asyncio.gather(
        *(scheduler.recipes.UpdateRecipe(change(TEXT, 5)) for _ in range(4)),
        return_exceptions=True,
    )

    assert sorted(one.version for one in made) == [2, 3, 4, 5]
    assert sum(isinstance(one, Recipe) for one in guarded) == 1


async def test_a_deleted_name_can_be_used_again_and_its_versions_go_on(scheduler):
    await scheduler.recipes.CreateRecipe(new())
    job = await scheduler.jobs.CreateJob(creation(job_from("recipes/tiny")))

    await delete(scheduler, "recipes/tiny")
    gone = await refusal_of(got(scheduler, "recipes/tiny"))
    again = await scheduler.recipes.CreateRecipe(new())

    assert (gone.code, gone.reason) == ("NOT_FOUND", "RECIPE_NOT_FOUND")
    assert again.version == 2
    assert (await refusal_of(got(scheduler, "recipes/tiny@1"))).reason == "RECIPE_NOT_FOUND"
    kept = await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name))
    assert (kept.recipe, kept.spec.hyperparameters.lora_r) == ("recipes/tiny@1", 8)


async def test_pages_hold_every_recipe_once_by_name(scheduler):
    for name in ("aaa", "mmm", "zzz"):
        await scheduler.recipes.CreateRecipe(new(recipe_id=name))

    found = await listed(scheduler, page_size=3)

    ids = [one.name.removeprefix("recipes/") for one in found]
    assert ids == sorted([*SHIPPED, "aaa", "mmm", "zzz"])


async def test_a_page_that_would_not_fit_a_message_ends_early_and_loses_nothing(scheduler):
    long = TEXT + "# " + "x" * 60_000
    for index in range(70):
        await scheduler.recipes.CreateRecipe(new(long, recipe_id=f"r-{index}"))

    request = recipe_service_pb2.ListRecipesRequest(page_size=1000)
    first = await scheduler.recipes.ListRecipes(request)

    assert len(first.recipes) < 75
    assert len(await listed(scheduler, page_size=1000)) == 75


async def test_validate_only_stores_nothing(scheduler):
    checked = await scheduler.recipes.CreateRecipe(new(validate_only=True))

    assert (checked.name, checked.version) == ("recipes/tiny", 0)
    assert checked.spec.hyperparameters.lora_r == 8
    assert (await refusal_of(got(scheduler, "recipes/tiny"))).reason == "RECIPE_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (new(""), {"recipe.yaml"}),
        (new(TEXT, "Not a name"), {"recipe_id"}),
        (new("", ""), {"recipe_id", "recipe.yaml"}),
        (new("a: [1"), {"recipe.yaml"}),
        (new("x" * 70_000), {"recipe.yaml"}),
        (
            new(TEXT.replace("lora_r", "lora_rank").replace("learning_rate", "learnin_rate")),
            {
                "recipe.yaml: spec.hyperparameters.lora_rank",
                "recipe.yaml: overridable.hyperparameters.learnin_rate",
            },
        ),
    ],
)
async def test_every_bad_field_of_a_new_recipe_is_named(scheduler, request_, fields):
    refused = await refusal_of(scheduler.recipes.CreateRecipe(request_))

    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert {one.field for one in refused.violations} == fields


@pytest.mark.parametrize("name", ["", "tiny", "recipes/", "recipes/a@0", "recipes/a@x", "jobs/a"])
async def test_a_name_that_is_none_is_refused(scheduler, name):
    refused = await refusal_of(got(scheduler, name))

    assert [one.field for one in refused.violations] == ["name"]


async def test_a_change_and_a_removal_name_no_version(scheduler):
    changed = await refusal_of(scheduler.recipes.UpdateRecipe(change(TEXT, name="recipes/tiny@1")))
    removed = await refusal_of(delete(scheduler, "recipes/tiny@1"))

    assert [one.field for one in (*changed.violations, *removed.violations)] == [
        "recipe.name",
        "name",
    ]


async def test_a_job_from_a_recipe_needs_only_what_the_recipe_leaves_open(scheduler):
    place = spec_pb2.Resources(gpu_ids=["0"])

    job = await scheduler.jobs.CreateJob(
        creation(job_from("recipes/llm-swift", "llm_test", resources=place))
    )

    assert job.recipe == "recipes/llm-swift@1"
    assert job.spec.model.name == "Qwen/Qwen2.5-7B-Instruct"
    assert job.spec.backend == spec_pb2.BACKEND_SWIFT
    assert job.spec.swift.model_name == "swift-robot"
    assert job == await scheduler.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name))


async def test_what_a_recipe_does_not_leave_open_is_refused_with_all_else_that_is_wrong(scheduler):
    await scheduler.recipes.CreateRecipe(new())
    values = spec_pb2.Hyperparameters(lora_r=4, learning_rate=0.5)
    values.MergeFromString(b"\xf8\x07\x01")  # field 127, varint 1
    job = job_from("recipes/tiny", "", hyperparameters=values)
    job.priority = 9999

    refused = await refusal_of(scheduler.jobs.CreateJob(creation(job)))

    told = {one.field: one.description for one in refused.violations}
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert told["job.spec.hyperparameters.lora_r"] == "recipe tiny does not let it be changed"
    assert told["job.spec.hyperparameters.learning_rate"] == (
        "recipe tiny allows 1e-06 to 0.01; got 0.5"
    )
    assert told["job.spec.output_dir"] == "is required by recipe tiny"
    assert "127" in told["job.spec.hyperparameters"]
    assert "job.priority" in told


async def test_a_job_from_a_recipe_that_is_not_there_is_refused(scheduler):
    missing = await refusal_of(scheduler.jobs.CreateJob(creation(job_from("recipes/none"))))
    misspelt = await refusal_of(scheduler.jobs.CreateJob(creation(job_from("llm-swift"))))

    assert (missing.code, missing.reason) == ("NOT_FOUND", "RECIPE_NOT_FOUND")
    assert [one.field for one in misspelt.violations] == ["job.recipe"]


async def test_jobs_are_found_by_recipe_and_by_kind(scheduler):
    await scheduler.recipes.CreateRecipe(new())
    await scheduler.jobs.CreateJob(creation(job_from("recipes/tiny", "one")))
    await scheduler.recipes.UpdateRecipe(change(TEXT))
    await scheduler.jobs.CreateJob(creation(job_from("recipes/tiny", "two")))
    data = [spec_pb2.DataSource(source="/d.jsonl")]
    vlm = job_from("recipes/vlm-swift", "vlm", train_data=data)
    vlm.spec.resources.gpu_ids.append("0")
    await scheduler.jobs.CreateJob(creation(vlm))

    async def found(question: str) -> list[str]:
        request = job_service_pb2.ListJobsRequest(filter=question, order_by="create_time")
        answer = await scheduler.jobs.ListJobs(request)
        return [one.spec.output_dir for one in answer.jobs]

    assert await found('recipe = "recipes/tiny@1"') == ["one"]
    assert await found('recipe : "recipes/tiny@"') == ["one", "two"]
    assert await found("recipe != tiny@2") == ["one", "vlm"]
    assert await found("model_kind = VLM") == ["vlm"]
    assert await found("model_kind = MODEL_KIND_LLM") == ["one", "two"]


async def test_recipes_are_behind_the_same_token_as_everything_else(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text("s3cr3t-enough-for-a-token\n")
    token.chmod(0o600)

    async with running_scheduler(sqlite_config(tmp_path, token_file=token)) as scheduler:
        refused = await refusal_of(got(scheduler, "recipes/llm-swift"))
        headers = (("authorization", "Bearer s3cr3t-enough-for-a-token"),)
        async with grpc.aio.insecure_channel(scheduler.service.address) as channel:
            known = await connect(scheduler.service, channel).recipes.GetRecipe(
                recipe_service_pb2.GetRecipeRequest(name="recipes/llm-swift"), metadata=headers
            )

    assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert known.read_only


async def test_recipes_outlive_the_scheduler(tmp_path: Path):
    async with running_scheduler(sqlite_config(tmp_path)) as scheduler:
        before = await scheduler.recipes.CreateRecipe(new())

    async with running_scheduler(sqlite_config(tmp_path)) as scheduler:
        after = await got(scheduler, "recipes/tiny")

    assert after == before
