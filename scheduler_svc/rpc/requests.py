"""What many requests have in common: names and page sizes. Refuses with InvalidRequest."""

from collections.abc import Callable
from typing import TypeVar

from tunewright.wire import names

from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.job import JobId, TrainerId
from scheduler_svc.domain.recipe import RecipeId, RecipeRef
from svckit.refusal import InvalidRequest, Violation

PAGE_SIZE_DEFAULT = 100

T = TypeVar("T")


def job_id_of(name: str, field: str = "name") -> JobId:
    """The id in "jobs/{job}"."""
    return JobId(_parsed(names.job_id, name, field))


def trainer_id_of(name: str, field: str = "name") -> TrainerId:
    """The id in "trainers/{trainer}"."""
    return TrainerId(_parsed(names.trainer_id, name, field))


def recipe_ref_of(name: str, field: str = "name") -> RecipeRef:
    """The recipe that "recipes/{recipe}" or "recipes/{recipe}@{version}" names."""
    recipe_id, version = _parsed(names.recipe_ref, name, field)
    return RecipeRef(RecipeId(recipe_id), version)


def recipe_id_of(name: str, field: str = "name") -> RecipeId:
    """The id in "recipes/{recipe}"; a version is refused."""
    ref = recipe_ref_of(name, field)
    if ref.version:
        told = f"must name a recipe and no version of it, as in {names.recipe_name(ref.recipe_id)}"
        raise InvalidRequest.of([Violation(field, told)])
    return ref.recipe_id


def page_size_of(
    page_size: int, page_max: int, noted: Violations, default: int = PAGE_SIZE_DEFAULT
) -> int:
    """The page size that is meant; notes one that is out of range."""
    if not 0 <= page_size <= page_max:
        noted.add("page_size", f"must be 1 to {page_max}, or 0; got {page_size}")
    return page_size or min(default, page_max)


def _parsed(parse: Callable[[str], T], name: str, field: str) -> T:
    try:
        return parse(name)
    except ValueError as error:
        raise InvalidRequest.of([Violation(field, str(error))]) from None
