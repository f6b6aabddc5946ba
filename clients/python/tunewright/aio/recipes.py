"""Recipes, for the asyncio client: the twin of `tunewright.recipes`.

Thin over `tunewright.requests` and `tunewright.transport`; holds no rules of its own.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from tunewright import requests, rpcs
from tunewright.aio.transport import AsyncTransport
from tunewright.requests import recipe_name
from tunewright.v1 import recipe_service_pb2


class AsyncRecipes:
    """`client.recipes`. Names may be given with or without "recipes/"."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self, *, page_size: int = 0) -> AsyncIterator[recipe_service_pb2.Recipe]:
        """The latest version of each, by name; walks the pages."""
        request = recipe_service_pb2.ListRecipesRequest(page_size=page_size)
        while True:
            page = await self._transport.call(rpcs.LIST_RECIPES, request)
            for recipe in page.recipes:
                yield recipe
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get(self, name: str) -> recipe_service_pb2.Recipe:
        """The latest version of a recipe, or "name@version". Raises NotFound."""
        request = recipe_service_pb2.GetRecipeRequest(name=recipe_name(name))
        return await self._transport.call(rpcs.GET_RECIPE, request)

    async def create(
        self, recipe_id: str, yaml: str | os.PathLike[str], *, validate_only: bool = False
    ) -> recipe_service_pb2.Recipe:
        """Stores a new recipe.

        Args:
            recipe_id: what is to be the last part of its name.
            yaml: the recipe; a `Path` is read, a text is sent as it is.
            validate_only: check only; nothing is stored.

        Raises:
            InvalidRequest: `violations` names every bad field of the YAML.
            AlreadyExists: there is one of that name.
        """
        request = requests.create_recipe(recipe_id, yaml, validate_only=validate_only)
        return await self._transport.call(rpcs.CREATE_RECIPE, request)

    async def update(
        self, name: str, yaml: str | os.PathLike[str], *, version: int = 0
    ) -> recipe_service_pb2.Recipe:
        """Stores a new version.

        Args:
            name: of the recipe.
            yaml: the recipe; a `Path` is read, a text is sent as it is.
            version: which one was edited; 0 means whichever is the latest.

        Raises:
            InvalidRequest: `violations` names every bad field of the YAML.
            NotFound: there is no such recipe.
            Aborted: `version` is not the latest any more.
            FailedPrecondition: it comes with Tunewright.
        """
        return await self._transport.call(
            rpcs.UPDATE_RECIPE, requests.update_recipe(name, yaml, version)
        )

    async def delete(self, name: str) -> None:
        """Removes a recipe with all its versions; jobs made from it keep their spec.

        Raises NotFound, and FailedPrecondition for one that comes with Tunewright.
        """
        request = recipe_service_pb2.DeleteRecipeRequest(name=recipe_name(name))
        await self._transport.call(rpcs.DELETE_RECIPE, request)
