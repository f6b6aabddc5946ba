"""The recipes that come with Tunewright: the YAML files beside this module.

Owns their versions. A file that gets another content gets another version
here, so that "recipes/llm-swift@1" is one spec for ever; a test holds the two
together. An older version of a shipped recipe is not kept: jobs keep their spec.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from types import MappingProxyType

from svckit.recipes.reading import parse_recipe
from svckit.recipes.recipe import Recipe

_VERSIONS: Mapping[str, int] = MappingProxyType(
    {
        "dialogue-qlora": 1,
        "llm-swift": 1,
        "tiny-cpu-qlora": 1,
        "tiny-cpu-swift": 1,
        "vlm-swift": 2,
    }
)


@dataclass(frozen=True)
class ShippedRecipe:
    """One of them. Read-only."""

    recipe_id: str
    version: int

    @cached_property
    def yaml(self) -> str:
        """The file."""
        file = resources.files(__package__).joinpath(f"{self.recipe_id}.yaml")
        return file.read_text(encoding="utf-8")

    @property
    def recipe(self) -> Recipe:
        """What it says."""
        return parse_recipe(self.yaml)


SHIPPED: Mapping[str, ShippedRecipe] = MappingProxyType(
    {recipe_id: ShippedRecipe(recipe_id, version) for recipe_id, version in _VERSIONS.items()}
)
"""All of them, by the last part of their names, in its order."""
