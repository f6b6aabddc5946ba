"""Recipes as texts, for tests."""

import pytest

from svckit.recipes import InvalidRecipe, parse_recipe

PLAIN = """\
description: a plain one
required: [output_dir]
overridable:
  hyperparameters.learning_rate: {minimum: 1e-6, maximum: 1e-2}
  hyperparameters.num_train_epochs:
spec:
  model: {name: a/b}
  train_data: [{source: c/d}]
"""


def refusals_of(text: str) -> dict[str, str]:
    """What each field of a bad recipe is refused with."""
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(text)
    return {one.field: one.description for one in caught.value.violations}


def spec_only(lines: str, more: str = "") -> str:
    """A recipe that is good but for what is added."""
    head = "description: x\nrequired: [model, train_data, output_dir]\n"
    return f"{head}{more}\nspec:\n  retry_policy: {{}}\n  {lines}\n"
