"""From a recipe and what a caller sets to the spec of a job. Pure.

Refuses in one go whatever the recipe does not leave to the caller, what it
requires and was not given, what is out of its ranges, and what no spec may be.
Only then can be judged what follows from other fields, as gpu_count from gpu_ids:
a range holds for the whole spec, not only for what was typed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from svckit.recipes.recipe import Range, Recipe, stand_ins
from svckit.recipes.spec_paths import covers, leaves, merged, value_at, with_value, without
from svckit.refusal import Violation
from svckit.spec import InvalidSpec, JobSpec
from svckit.spec.enums import DataFormat
from svckit.spec.wire import proto_path, spec_from_values

_EPOCHS, _STEPS = "hyperparameters.num_train_epochs", "hyperparameters.max_steps"
_NO_STEP_LIMIT = -1


def resolve(
    recipe: Recipe,
    recipe_id: str,
    given: Mapping[str, object],
    prefix: str = "job.spec",
    noted: Sequence[Violation] = (),
) -> JobSpec:
    """The whole spec.

    `given` has only fields that the caller has set, under the model's names;
    `noted` is what is wrong with the request besides. Raises InvalidSpec, each
    path below `prefix`.
    """
    violations = list(noted)
    taken: dict[str, Any] = {}
    for path, value in leaves(given):
        problem = _problem(recipe, recipe_id, path, value)
        if problem:
            violations.append(Violation(proto_path(f"{prefix}.{path}"), problem))
        else:
            taken = with_value(taken, path, value)
    useless = _useless_epochs(recipe, recipe_id, taken)
    if useless:
        violations.append(Violation(f"{prefix}.{_EPOCHS}", useless))
    elif _hides_epochs(recipe, taken):
        taken = with_value(taken, _STEPS, _NO_STEP_LIMIT)
    missing = [one for one in recipe.required if not _is_given(one, taken)]
    for path in missing:
        told = f"is required by recipe {recipe_id}"
        violations.append(Violation(proto_path(f"{prefix}.{path}"), told))
        taken = without(taken, path)
    values = merged(recipe.values, _with_patterns(recipe, taken))
    # What is missing has been told; the stand-ins let the rest be judged all the same.
    spec = spec_from_values(merged(stand_ins(missing), values), prefix, violations)
    beyond = _out_of_range(recipe, recipe_id, spec, prefix)
    if beyond:
        raise InvalidSpec.of(beyond)
    return spec


def _problem(recipe: Recipe, recipe_id: str, path: str, value: object) -> str:
    if any(covers(one, path) for one in recipe.required):
        return ""
    allowed = recipe.range_of(path)
    if allowed is None:
        return f"recipe {recipe_id} does not let it be changed"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if allowed != Range() and number and not allowed.has(value):  # type: ignore[arg-type] # just seen
        return f"recipe {recipe_id} allows {allowed}; got {value}"
    return ""


def _hides_epochs(recipe: Recipe, taken: Mapping[str, Any]) -> bool:
    """Whether the recipe's number of steps would make the caller's epochs mean nothing."""
    if value_at(taken, _EPOCHS) is None or value_at(taken, _STEPS) is not None:
        return False
    steps = value_at(recipe.values, _STEPS)
    return steps is not None and steps > 0


def _useless_epochs(recipe: Recipe, recipe_id: str, taken: Mapping[str, Any]) -> str:
    """What to tell who gives epochs where the steps cannot make room for them."""
    if not _hides_epochs(recipe, taken):
        return ""
    allowed, told = recipe.range_of(_STEPS), "does not let it be changed"
    if allowed is not None:
        # -1 is below any maximum, and means more steps than any.
        if allowed.maximum is None and allowed.has(_NO_STEP_LIMIT):
            return ""
        told = f"allows {allowed}"
    steps = value_at(recipe.values, _STEPS)
    return f"has no effect: max_steps is {steps}, and recipe {recipe_id} {told}"


def _out_of_range(
    recipe: Recipe, recipe_id: str, spec: JobSpec, prefix: str
) -> Sequence[Violation]:
    """What lies outside its range through something else that was given."""
    whole = spec.model_dump()
    found: list[Violation] = []
    for path, allowed in recipe.overridable.items():
        value = value_at(whole, path) if allowed != Range() else None
        if value is not None and not allowed.has(value):
            told = f"recipe {recipe_id} allows {allowed}; it comes to {value}"
            found.append(Violation(proto_path(f"{prefix}.{path}"), told))
    return found


def _is_given(path: str, taken: Mapping[str, object]) -> bool:
    return any(covers(path, one) and value not in ([], ()) for one, value in leaves(taken))


def _with_patterns(recipe: Recipe, taken: Mapping[str, Any]) -> dict[str, Any]:
    """Sources that say nothing of their format, split or columns get the recipe's."""
    made = dict(taken)
    for part, pattern in recipe.patterns.items():
        sources = made.get(part)
        if isinstance(sources, Sequence):
            made[part] = [
                {**pattern, **_said(source)} if isinstance(source, Mapping) else source
                for source in sources
            ]
    return made


def _said(source: Mapping[str, Any]) -> dict[str, Any]:
    empty: tuple[object, ...] = ("", None, DataFormat.UNSPECIFIED, {})
    return {name: value for name, value in source.items() if value not in empty}
