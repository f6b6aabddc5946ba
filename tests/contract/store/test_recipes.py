"""Recipes in every store: versions count up, and a name with a version never means two things."""

from __future__ import annotations

import pytest

from scheduler_svc.application.ports import Store
from scheduler_svc.domain.errors import RecipeExists
from scheduler_svc.domain.recipe import RecipeId, RecipeRef, StoredRecipe
from tests.unit.scheduler.builders import at

R = RecipeId("r")


def stored(store: Store, recipe_id: str = "r", version: int = 0) -> StoredRecipe | None:
    with store.read() as tx:
        return tx.recipe(RecipeRef(RecipeId(recipe_id), version))


def test_a_recipe_comes_back_as_it_was_put_in(store: Store) -> None:
    with store.write() as tx:
        made = tx.insert_recipe(R, "text: ü 🎈", at(1.000001))

    assert made == StoredRecipe(R, 1, "text: ü 🎈", at(1.000001), at(1.000001))
    assert stored(store) == stored(store, version=1) == made
    assert stored(store, version=2) is None
    assert stored(store, "other") is None


def test_an_update_makes_the_next_version_and_keeps_the_one_before(store: Store) -> None:
    with store.write() as tx:
        tx.insert_recipe(R, "one", at(1))
    with store.write() as tx:
        made = tx.update_recipe(RecipeRef(R, 1), "two", at(2))

    assert made == stored(store) == StoredRecipe(R, 2, "two", at(1), at(2))
    assert stored(store, version=1) == StoredRecipe(R, 1, "one", at(1), at(1))


@pytest.mark.parametrize("version", [1, 3])
def test_an_update_of_a_version_that_is_not_the_latest_writes_nothing(
    store: Store, version: int
) -> None:
    with store.write() as tx:
        tx.insert_recipe(R, "one", at(1))
        tx.update_recipe(RecipeRef(R, 1), "two", at(2))

    with store.write() as tx:
        assert tx.update_recipe(RecipeRef(R, version), "three", at(3)) is None
        assert tx.update_recipe(RecipeRef(RecipeId("none"), 1), "three", at(3)) is None

    assert stored(store) == StoredRecipe(R, 2, "two", at(1), at(2))


def test_a_name_that_is_there_is_refused(store: Store) -> None:
    with store.write() as tx:
        tx.insert_recipe(R, "one", at(1))

    with pytest.raises(RecipeExists), store.write() as tx:
        tx.insert_recipe(R, "two", at(2))

    assert stored(store) == StoredRecipe(R, 1, "one", at(1), at(1))


def test_a_deleted_name_is_free_and_its_versions_go_on(store: Store) -> None:
    with store.write() as tx:
        tx.insert_recipe(R, "one", at(1))
        tx.update_recipe(RecipeRef(R, 1), "two", at(2))

    with store.write() as tx:
        assert tx.delete_recipe(R)
    gone = [stored(store), stored(store, version=1), stored(store, version=2)]
    with store.write() as tx:
        assert not tx.delete_recipe(R)
        assert tx.update_recipe(RecipeRef(R, 2), "late", at(3)) is None
        made = tx.insert_recipe(R, "three", at(4))

    assert gone == [None, None, None]
    assert made == stored(store) == StoredRecipe(R, 3, "three", at(4), at(4))
    assert stored(store, version=2) is None


def test_the_latest_of_each_is_listed_by_id_from_where_one_stopped(store: Store) -> None:
    with store.write() as tx:
        for name in ("b", "a-b", "a", "gone", "z"):
            tx.insert_recipe(RecipeId(name), name, at(1))
        tx.update_recipe(RecipeRef(RecipeId("a"), 1), "newer", at(2))
        tx.delete_recipe(RecipeId("gone"))

    with store.read() as tx:
        first, rest = tx.recipes("", 2), tx.recipes("a-b", 10)

    assert [(one.recipe_id, one.version) for one in first] == [("a", 2), ("a-b", 1)]
    assert [one.recipe_id for one in rest] == ["b", "z"]


def test_a_transaction_that_fails_leaves_no_recipe(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as tx:
        tx.insert_recipe(R, "one", at(1))
        raise RuntimeError

    assert stored(store) is None
    with store.write() as tx:
        assert tx.insert_recipe(R, "one", at(1)).version == 1
