"""Jobs that are made from recipes: resolved once, and kept as they came out."""

from __future__ import annotations

from typing import Any

import pytest
from tunewright.wire.reasons import Violation

from scheduler_svc.application.creation import FromRecipe, NewJob, NewJobOptions
from scheduler_svc.application.jobs import JobEdit
from scheduler_svc.domain.errors import RecipeNotFound, RequestIdReused
from scheduler_svc.domain.job import JobView
from scheduler_svc.domain.recipe import RecipeId, RecipeRef
from scheduler_svc.domain.states import JobState
from svckit.refusal import InvalidRequest
from tests.unit.scheduler.world import World

TINY = RecipeRef(RecipeId("tiny"))


def text(rank: int = 8) -> str:
    return f"""\
description: a tiny one
required: [output_dir]
overridable: {{hyperparameters.learning_rate: }}
spec:
  model: {{name: a/b}}
  train_data: [{{source: c/d}}]
  resources: {{accelerator: cpu}}
  hyperparameters: {{lora_r: {rank}}}
"""


def world_with_recipe() -> World:
    world = World()
    world.scheduler.recipes.create(TINY.recipe_id, text())
    return world


def create(
    world: World, ref: RecipeRef = TINY, request_id: str = "", job_id: str = "", **given: Any
) -> JobView:
    values = {"output_dir": "out", **given}
    options = NewJobOptions(request_id=request_id, job_id=job_id)
    return world.scheduler.jobs.create(NewJob(FromRecipe(ref, values)), options)


def test_a_job_keeps_the_resolved_spec_and_the_version_it_is_from() -> None:
    world = world_with_recipe()

    job = create(world, hyperparameters={"learning_rate": 1e-3}).job

    assert job == world.view(job.job_id).job
    assert (job.state, job.recipe) == (JobState.QUEUED, "recipes/tiny@1")
    assert (job.spec.hyperparameters.lora_r, job.spec.hyperparameters.learning_rate) == (8, 1e-3)


def test_a_recipe_that_changes_or_goes_changes_no_job() -> None:
    world = world_with_recipe()
    before = create(world).job

    world.scheduler.recipes.update(TINY, text(rank=64))
    after = create(world, output_dir="two").job
    old = create(world, RecipeRef(TINY.recipe_id, 1), output_dir="three").job
    world.scheduler.recipes.delete(TINY.recipe_id)

    assert world.view(before.job_id).job.spec.hyperparameters.lora_r == 8
    assert (after.recipe, after.spec.hyperparameters.lora_r) == ("recipes/tiny@2", 64)
    assert (old.recipe, old.spec.hyperparameters.lora_r) == ("recipes/tiny@1", 8)
    with pytest.raises(RecipeNotFound):
        create(world, output_dir="four")


def test_a_request_that_is_sent_again_makes_one_job_whatever_became_of_the_recipe() -> None:
    world = world_with_recipe()
    first = create(world, request_id="r").job

    world.scheduler.recipes.update(TINY, text(rank=64))
    second = create(world, request_id="r").job
    world.scheduler.recipes.delete(TINY.recipe_id)
    third = create(world, request_id="r").job

    assert first == second == third
    assert len(world.entries()) == 1


@pytest.mark.parametrize(
    "new",
    [
        FromRecipe(RecipeRef(TINY.recipe_id, 1), {"output_dir": "out"}),
        FromRecipe(RecipeRef(RecipeId("other")), {"output_dir": "out"}),
        FromRecipe(TINY, {"output_dir": "out", "hyperparameters": {"learning_rate": 1e-3}}),
    ],
)
def test_the_same_id_with_another_recipe_or_other_values_is_refused(new: FromRecipe) -> None:
    world = world_with_recipe()
    create(world, request_id="r")

    with pytest.raises(RequestIdReused):
        world.scheduler.jobs.create(NewJob(new), NewJobOptions(request_id="r"))


def test_a_plan_resolves_too_and_stores_nothing() -> None:
    world = world_with_recipe()
    world.register()

    view = world.scheduler.jobs.plan(NewJob(FromRecipe(TINY, {"output_dir": "out"})))

    assert view.job.recipe == "recipes/tiny@1"
    assert view.job.spec.hyperparameters.lora_r == 8
    assert view.plan is not None
    assert view.plan.trainer_ids == ("a",)
    assert world.entries() == []


def test_a_refused_override_leaves_nothing_and_names_what_else_is_wrong() -> None:
    world = world_with_recipe()
    noted = (Violation("job.priority", "too high"),)
    new = NewJob(FromRecipe(TINY, {"hyperparameters": {"lora_r": 4}}, noted))

    with pytest.raises(InvalidRequest) as caught:
        world.scheduler.jobs.create(new, NewJobOptions(request_id="r"))

    assert [one.field for one in caught.value.violations] == [
        "job.priority",
        "job.spec.hyperparameters.lora_r",
        "job.spec.output_dir",
    ]
    assert world.entries() == []
    create(world, request_id="r")


def test_a_job_that_is_done_again_keeps_its_recipe_and_its_spec() -> None:
    world = world_with_recipe()
    job = create(world).job
    world.scheduler.jobs.cancel(job.job_id)
    world.scheduler.recipes.delete(TINY.recipe_id)

    again = world.scheduler.jobs.retry(job.job_id, "two").job

    assert again.recipe == "recipes/tiny@1"
    assert again.spec == job.spec.model_copy(update={"output_dir": "two"})


def test_an_edit_keeps_the_recipe() -> None:
    world = world_with_recipe()
    job = create(world).job

    edited = world.scheduler.jobs.update(job.job_id, JobEdit(priority=3)).job

    assert (edited.priority, edited.recipe) == (3, "recipes/tiny@1")


def test_a_stored_recipe_that_this_version_refuses_is_shown_and_makes_no_job() -> None:
    world = World()
    with world.store.write() as tx:
        tx.insert_recipe(TINY.recipe_id, "description: from another time", world.clock.now())

    shown = world.scheduler.recipes.get(TINY)
    with pytest.raises(InvalidRequest) as caught:
        create(world)

    assert (shown.recipe, shown.problem) == (None, "recipe.yaml: spec: is required")
    [violation] = caught.value.violations
    assert violation.field == "job.recipe"
    assert "recipes/tiny@1 cannot be used by this version" in violation.description
