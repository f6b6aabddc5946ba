"""Recipes: named specs, with what a caller must or may give. Pure; stores nothing."""

from svckit.recipes.reading import InvalidRecipe, parse_recipe
from svckit.recipes.recipe import Range, Recipe
from svckit.recipes.resolution import resolve
from svckit.recipes.shipped import SHIPPED, ShippedRecipe

__all__ = [
    "SHIPPED",
    "InvalidRecipe",
    "Range",
    "Recipe",
    "ShippedRecipe",
    "parse_recipe",
    "resolve",
]
