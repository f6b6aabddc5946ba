"""DataService's requests, checked and made into what the use case takes.

Every bad field of a request is named in one refusal.
"""

from dataclasses import dataclass

from tunewright.v1 import data_service_pb2, spec_pb2

from scheduler_svc.application.creation import FromRecipe
from scheduler_svc.application.data_checks import OUTPUT_DIR
from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.rpc.requests import recipe_ref_of, trainer_id_of
from svckit.refusal import Violation
from svckit.spec import JobSpec
from svckit.spec.wire import spec_from_proto, values_from_proto

ROWS_SHOWN_MAX = 20


@dataclass(frozen=True)
class CheckRequest:
    """What is to be checked, and where; None: wherever it can be."""

    spec: JobSpec | FromRecipe
    trainer_id: TrainerId | None


def check_of(request: data_service_pb2.CheckDataRequest) -> CheckRequest:
    """What CheckData asks for. Raises InvalidRequest with every bad field."""
    noted = Violations()
    if not 0 <= request.rows_shown <= ROWS_SHOWN_MAX:
        noted.add("rows_shown", f"must be 0 to {ROWS_SHOWN_MAX}, got {request.rows_shown}")
    trainer_id = None
    if request.trainer:
        with noted.noting("trainer"):
            trainer_id = trainer_id_of(request.trainer, "trainer")
    spec = (_from_recipe if request.recipe else _spec_of)(request, noted)
    if not isinstance(spec, FromRecipe):
        noted.refuse_any()
    assert spec is not None
    return CheckRequest(spec, trainer_id)


def _spec_of(request: data_service_pb2.CheckDataRequest, noted: Violations) -> JobSpec | None:
    if not request.HasField("spec"):
        noted.add("spec", "is required")
        return None
    spec = spec_pb2.JobSpec()
    spec.CopyFrom(request.spec)
    spec.output_dir = spec.output_dir or OUTPUT_DIR
    with noted.noting("spec"):
        return spec_from_proto(spec, "spec")
    return None


def _from_recipe(
    request: data_service_pb2.CheckDataRequest, noted: Violations
) -> FromRecipe | None:
    """With what is wrong besides: only with the recipe at hand can all of it be judged."""
    with noted.noting("recipe"):
        ref = recipe_ref_of(request.recipe, "recipe")
        violations: list[Violation] = []
        given = values_from_proto(request.spec, violations, "spec")
        return FromRecipe(ref, given, (*noted.found, *violations))
    return None
