"""Which trainers may check the data of a job that is not made, and with which spec.

Reads only: a check is stored nowhere and holds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler_svc.application.creation import FromRecipe
from scheduler_svc.application.fleet import FleetBook
from scheduler_svc.application.ports import Reading, Store
from scheduler_svc.application.recipes import found_in, usable
from scheduler_svc.domain.checkers import checkers
from scheduler_svc.domain.fleet import Host
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.domain.requirement import Requirement
from svckit.recipes import resolve
from svckit.spec import JobSpec

# A check has no use for one, and no spec can do without.
OUTPUT_DIR = "data-check"


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What is to be checked, and by whom: the first of `hosts` that takes it."""

    spec: JobSpec
    hosts: Sequence[Host]


class DataChecks:
    """The use case of DataService."""

    def __init__(self, store: Store, fleet: FleetBook) -> None:
        self._store = store
        self._fleet = fleet

    def plan(self, spec: JobSpec | FromRecipe, trainer_id: TrainerId | None) -> CheckPlan:
        """Raises RecipeNotFound, InvalidSpec, TrainerNotFound, TrainerUnavailable.

        `trainer_id` None: the one that the spec names, else any.
        """
        with self._store.read() as tx:
            whole = spec if isinstance(spec, JobSpec) else _resolved(tx, spec)
            fleet = self._fleet.read(tx)
        need = Requirement.of(whole)
        return CheckPlan(whole, checkers(need, trainer_id or need.trainer_id, fleet))


def _resolved(tx: Reading, spec: FromRecipe) -> JobSpec:
    view = found_in(tx, spec.ref)
    recipe = usable(view, "recipe")
    given = dict(spec.given)
    if "output_dir" in recipe.required:
        given.setdefault("output_dir", OUTPUT_DIR)
    return resolve(recipe, view.ref.recipe_id, given, "spec", spec.noted)
