"""RecipeService: named specs, and what a caller must or may give.

Each call: the request is checked, and one hop to a thread runs the use case and
makes the answer's message.
"""

from tunewright.v1 import recipe_service_pb2, recipe_service_pb2_grpc

from scheduler_svc.application.lead import Lead
from scheduler_svc.application.recipes import Recipes
from scheduler_svc.converters.recipes import recipe_message
from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.recipe import RecipeId, RecipeRef
from scheduler_svc.hop import Hop
from scheduler_svc.rpc import labels
from scheduler_svc.rpc.context import Context
from scheduler_svc.rpc.page_tokens import PageTokens
from scheduler_svc.rpc.requests import page_size_of, recipe_id_of, recipe_ref_of
from svckit.limits import PAGE_BYTES_MAX

PAGE_SIZE_DEFAULT = 50

_ASKED = ("recipes",)


class RecipeServicer(recipe_service_pb2_grpc.RecipeServiceServicer):
    """Converts, and makes one hop to the use cases."""

    def __init__(self, recipes: Recipes, lead: Lead, hop: Hop, page_max: int) -> None:
        self._recipes = recipes
        self._lead = lead
        self._hop = hop
        self._page_max = page_max

    async def GetRecipe(  # noqa: N802 - the name is the contract's
        self, request: recipe_service_pb2.GetRecipeRequest, context: Context
    ) -> recipe_service_pb2.Recipe:
        """One recipe, or one version of it."""
        ref = recipe_ref_of(request.name)
        return await self._hop(lambda: recipe_message(self._recipes.get(ref)))

    async def ListRecipes(  # noqa: N802 - the name is the contract's
        self, request: recipe_service_pb2.ListRecipesRequest, context: Context
    ) -> recipe_service_pb2.ListRecipesResponse:
        """A page of recipes, by name."""
        tokens = PageTokens(self._lead.database_uuid)
        noted = Violations()
        page_size = page_size_of(request.page_size, self._page_max, noted, PAGE_SIZE_DEFAULT)
        after: RecipeId | None = None
        if request.page_token:
            with noted.noting("page_token"):
                after = RecipeId(str(tokens.open(_ASKED, request.page_token)[0]))
        noted.refuse_any()
        return await self._hop(self._page, tokens, page_size, after)

    async def CreateRecipe(  # noqa: N802 - the name is the contract's
        self, request: recipe_service_pb2.CreateRecipeRequest, context: Context
    ) -> recipe_service_pb2.Recipe:
        """Stores a new recipe, or only checks it."""
        noted = Violations()
        if not request.recipe_id:
            noted.add("recipe_id", "is required")
        labels.check_id("recipe_id", request.recipe_id, noted)
        _check_yaml(request.recipe, noted)
        noted.refuse_any()
        make = self._recipes.draft if request.validate_only else self._recipes.create
        recipe_id, yaml = RecipeId(request.recipe_id), request.recipe.yaml
        return await self._hop(lambda: recipe_message(make(recipe_id, yaml)))

    async def UpdateRecipe(  # noqa: N802 - the name is the contract's
        self, request: recipe_service_pb2.UpdateRecipeRequest, context: Context
    ) -> recipe_service_pb2.Recipe:
        """Stores a new version."""
        noted = Violations()
        recipe_id = RecipeId("")
        with noted.noting("recipe.name"):
            recipe_id = recipe_id_of(request.recipe.name, "recipe.name")
        if request.recipe.version < 0:
            noted.add("recipe.version", f"must be at least 1, or 0; got {request.recipe.version}")
        _check_yaml(request.recipe, noted)
        noted.refuse_any()
        edited, yaml = RecipeRef(recipe_id, request.recipe.version), request.recipe.yaml
        return await self._hop(lambda: recipe_message(self._recipes.update(edited, yaml)))

    async def DeleteRecipe(  # noqa: N802 - the name is the contract's
        self, request: recipe_service_pb2.DeleteRecipeRequest, context: Context
    ) -> recipe_service_pb2.DeleteRecipeResponse:
        """Removes a recipe with all its versions."""
        await self._hop(self._recipes.delete, recipe_id_of(request.name))
        return recipe_service_pb2.DeleteRecipeResponse()

    def _page(
        self, tokens: PageTokens, page_size: int, after: RecipeId | None
    ) -> recipe_service_pb2.ListRecipesResponse:
        """On a thread: each text is read again."""
        page = self._recipes.list(page_size, after)
        response = recipe_service_pb2.ListRecipesResponse()
        size, last = 0, page.after
        for index, view in enumerate(page.recipes):
            message = recipe_message(view)
            size += message.ByteSize()
            if size > PAGE_BYTES_MAX and index > 0:
                last = page.recipes[index - 1].ref.recipe_id
                break
            response.recipes.append(message)
        if last is not None:
            response.next_page_token = tokens.seal(_ASKED, (last,))
        return response


def _check_yaml(recipe: recipe_service_pb2.Recipe, noted: Violations) -> None:
    if not recipe.yaml.strip():
        noted.add("recipe.yaml", "is required")
