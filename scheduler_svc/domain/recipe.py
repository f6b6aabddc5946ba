"""The record of a recipe, and how a caller names one.

Pure. What a recipe says is svckit.recipes; here it is a text with a version.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from tunewright.wire import names

RecipeId = NewType("RecipeId", str)
"""Last part of "recipes/{recipe}"."""


@dataclass(frozen=True, slots=True)
class RecipeRef:
    """A recipe as somebody asks for it."""

    recipe_id: RecipeId
    version: int = 0
    """0: the latest."""

    @property
    def name(self) -> str:
        """ "recipes/{recipe}", with "@{version}" where one is asked for."""
        return names.recipe_name(self.recipe_id, self.version)


@dataclass(frozen=True, slots=True)
class StoredRecipe:
    """One version of a recipe, as it is stored. It never changes."""

    recipe_id: RecipeId
    version: int
    """1, 2, ... A name that was deleted and is used again counts on."""
    yaml: str
    create_time: datetime
    """Of the first version since the name was last free."""
    update_time: datetime
    """Of this version."""
