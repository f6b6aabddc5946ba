"""Recipes: read, store, find for a job. Those that are shipped come first, and stay as they are.

A text is checked before it is stored. One that an older version of Tunewright
has stored, and that this one refuses, is still shown, with the reason; jobs
cannot be made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tunewright.wire.reasons import Violation

from scheduler_svc.application.moves import retrying
from scheduler_svc.application.ports import Clock, Raced, Reading, Store
from scheduler_svc.domain.errors import (
    RecipeChanged,
    RecipeExists,
    RecipeNotFound,
    RecipeReadOnly,
)
from scheduler_svc.domain.recipe import RecipeId, RecipeRef, StoredRecipe
from svckit.recipes import SHIPPED, InvalidRecipe, Recipe, ShippedRecipe, parse_recipe
from svckit.refusal import InvalidRequest


@dataclass(frozen=True, slots=True)
class RecipeView:
    """One version of a recipe, as people see it."""

    ref: RecipeRef
    yaml: str
    recipe: Recipe | None
    """None: this version of Tunewright cannot use it; `problem` says why."""
    problem: str = ""
    read_only: bool = False
    create_time: datetime | None = None
    update_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecipePage:
    """A page of recipes. `after` None: it is the last."""

    recipes: tuple[RecipeView, ...]
    after: RecipeId | None


class Recipes:
    """The use cases of RecipeService."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def get(self, ref: RecipeRef) -> RecipeView:
        """That version, or the latest. Raises RecipeNotFound."""
        with self._store.read() as tx:
            return found_in(tx, ref)

    def list(self, page_size: int, after: RecipeId | None = None) -> RecipePage:
        """The latest of each with an id greater than `after`, 1 to 1000 of them."""
        last = after or ""
        with self._store.read() as tx:
            stored = tx.recipes(last, page_size + 1)
        views = {one.recipe_id: _stored_view(one) for one in stored}
        views |= {
            RecipeId(one.recipe_id): _shipped_view(one)
            for one in SHIPPED.values()
            if one.recipe_id > last
        }
        ids = sorted(views)
        page = tuple(views[one] for one in ids[:page_size])
        return RecipePage(page, page[-1].ref.recipe_id if len(ids) > page_size else None)

    def create(self, recipe_id: RecipeId, yaml: str) -> RecipeView:
        """Stores a new recipe. Raises InvalidRecipe, RecipeExists."""
        parse_recipe(yaml)
        if recipe_id in SHIPPED:
            raise RecipeExists(RecipeRef(recipe_id))
        with self._store.write() as tx:
            return _stored_view(tx.insert_recipe(recipe_id, yaml, self._clock.now()))

    def draft(self, recipe_id: RecipeId, yaml: str) -> RecipeView:
        """What create would answer, less version and times; stores nothing. Raises as it does."""
        recipe = parse_recipe(yaml)
        ref = RecipeRef(recipe_id)
        with self._store.read() as tx:
            if recipe_id in SHIPPED or tx.recipe(ref) is not None:
                raise RecipeExists(ref)
        return RecipeView(ref, yaml, recipe)

    def update(self, edited: RecipeRef, yaml: str) -> RecipeView:
        """Stores a new version; `edited` with a version must be the latest.

        Raises RecipeReadOnly, RecipeNotFound, RecipeChanged, InvalidRecipe.
        """
        if edited.recipe_id in SHIPPED:
            raise RecipeReadOnly(RecipeRef(edited.recipe_id), "changed")
        parse_recipe(yaml)

        def once() -> StoredRecipe:
            with self._store.write() as tx:
                latest = tx.recipe(RecipeRef(edited.recipe_id))
                if latest is None:
                    raise RecipeNotFound(RecipeRef(edited.recipe_id))
                if edited.version not in (0, latest.version):
                    raise RecipeChanged(edited, latest.version)
                made = tx.update_recipe(_ref(latest), yaml, self._clock.now())
                if made is None:
                    raise Raced(edited.recipe_id)
                return made

        return _stored_view(retrying(once))

    def delete(self, recipe_id: RecipeId) -> None:
        """Removes all versions. Raises RecipeReadOnly, RecipeNotFound."""
        ref = RecipeRef(recipe_id)
        if recipe_id in SHIPPED:
            raise RecipeReadOnly(ref, "deleted")
        with self._store.write() as tx:
            if not tx.delete_recipe(recipe_id):
                raise RecipeNotFound(ref)


def found_in(tx: Reading, ref: RecipeRef) -> RecipeView:
    """That version, or the latest, in somebody's transaction. Raises RecipeNotFound."""
    shipped = SHIPPED.get(ref.recipe_id)
    if shipped is not None:
        if ref.version not in (0, shipped.version):
            raise RecipeNotFound(ref)
        return _shipped_view(shipped)
    stored = tx.recipe(ref)
    if stored is None:
        raise RecipeNotFound(ref)
    return _stored_view(stored)


def usable(view: RecipeView, field: str) -> Recipe:
    """What a job is made from. Raises InvalidRequest, naming `field`, if there is nothing."""
    if view.recipe is None:
        told = f"{view.ref.name} cannot be used by this version of Tunewright: {view.problem}"
        raise InvalidRequest.of([Violation(field, told)])
    return view.recipe


def _shipped_view(shipped: ShippedRecipe) -> RecipeView:
    ref = RecipeRef(RecipeId(shipped.recipe_id), shipped.version)
    return RecipeView(ref, shipped.yaml, shipped.recipe, read_only=True)


def _stored_view(stored: StoredRecipe) -> RecipeView:
    recipe, problem = None, ""
    try:
        recipe = parse_recipe(stored.yaml)
    except InvalidRecipe as invalid:
        problem = invalid.message
    return RecipeView(
        _ref(stored),
        stored.yaml,
        recipe,
        problem,
        create_time=stored.create_time,
        update_time=stored.update_time,
    )


def _ref(stored: StoredRecipe) -> RecipeRef:
    return RecipeRef(stored.recipe_id, stored.version)
