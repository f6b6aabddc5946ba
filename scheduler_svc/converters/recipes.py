"""Recipes to their messages."""

from tunewright.v1 import recipe_service_pb2
from tunewright.wire.names import recipe_name
from tunewright.wire.times import timestamp

from scheduler_svc.application.recipes import RecipeView
from svckit.recipes import Range, Recipe
from svckit.spec.wire import proto_path, values_to_proto


def recipe_message(view: RecipeView) -> recipe_service_pb2.Recipe:
    """A recipe as people see it. One that cannot be used any more says so where it describes
    itself, and has no spec."""
    message = recipe_service_pb2.Recipe(
        name=recipe_name(view.ref.recipe_id),
        version=view.ref.version,
        yaml=view.yaml,
        description=f"cannot be used by this version of Tunewright: {view.problem}",
        read_only=view.read_only,
    )
    if view.create_time is not None:
        message.create_time.CopyFrom(timestamp(view.create_time))
    if view.update_time is not None:
        message.update_time.CopyFrom(timestamp(view.update_time))
    if view.recipe is not None:
        _put(message, view.recipe)
    return message


def _put(message: recipe_service_pb2.Recipe, recipe: Recipe) -> None:
    message.description = recipe.description
    message.required_fields.extend(proto_path(path) for path in recipe.required)
    message.overridable_fields.extend(
        _overridable(path, allowed) for path, allowed in recipe.overridable.items()
    )
    message.spec.CopyFrom(values_to_proto(recipe.shown))


def _overridable(path: str, allowed: Range) -> recipe_service_pb2.OverridableField:
    return recipe_service_pb2.OverridableField(
        path=proto_path(path), minimum=allowed.minimum, maximum=allowed.maximum
    )
