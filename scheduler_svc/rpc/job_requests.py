"""JobService's requests, checked and made into what the use cases take.

Every bad field of a request is named in one refusal.
"""

from dataclasses import dataclass

from tunewright.v1 import job_pb2, job_service_pb2
from tunewright.wire import names

from scheduler_svc.application.creation import FromRecipe, NewJob, NewJobOptions
from scheduler_svc.application.jobs import JobEdit
from scheduler_svc.converters.violations import Violations
from scheduler_svc.domain.job import JobId
from scheduler_svc.domain.query import JobQuery, OrderTerm, Position, Value
from scheduler_svc.rpc import labels
from scheduler_svc.rpc.filters import parse_filter, parse_order
from scheduler_svc.rpc.labels import RecordLimits
from scheduler_svc.rpc.page_tokens import BadPageToken, PageTokens
from scheduler_svc.rpc.requests import page_size_of, recipe_ref_of
from svckit.refusal import Violation
from svckit.spec import JobSpec, text_rules
from svckit.spec.wire import spec_from_proto, values_from_proto

_EDITABLE = ("priority", "labels", "display_name")


def creation_of(
    request: job_service_pb2.CreateJobRequest, limits: RecordLimits
) -> tuple[NewJob, NewJobOptions]:
    """What is to be made, and how.

    Only with a recipe at hand can all of its spec be judged, so what is wrong with
    the rest goes along and is refused there, in one answer.
    """
    noted = Violations()
    labels.check_request_id(request.request_id, noted)
    labels.check_id("job_id", request.job_id, noted)
    _check_record(request.job, limits, noted)
    bad = {one.field for one in noted.found}
    spec = (_from_recipe if request.job.recipe else _spec_of)(request.job, noted)
    if not isinstance(spec, FromRecipe):
        noted.refuse_any()
    assert spec is not None
    new = NewJob(
        spec=spec,
        display_name=request.job.display_name,
        labels=dict(request.job.labels),
        priority=request.job.priority,
        # Read a second time, and all of it known: what is not has been refused above.
        asked=None if isinstance(spec, FromRecipe) else values_from_proto(request.job.spec, []),
    )
    # A bad id is refused with all else, and nothing is looked up by it before: a database may
    # not even take it as a text.
    options = NewJobOptions(
        request_id="" if "request_id" in bad else request.request_id,
        job_id="" if "job_id" in bad else request.job_id,
        hold=request.hold,
    )
    return new, options


def edit_of(
    request: job_service_pb2.UpdateJobRequest, limits: RecordLimits
) -> tuple[JobId, JobEdit]:
    """Which job, and what of it is to be changed."""
    noted = Violations()
    job, paths = request.job, list(request.update_mask.paths)
    job_id = ""
    with noted.noting("job.name"):
        job_id = names.job_id(job.name)
    labels.check_mask(paths, _EDITABLE, noted)
    if "priority" in paths:
        labels.check_priority(job.priority, noted)
    if "labels" in paths:
        labels.check_labels(job.labels, limits, noted)
    if "display_name" in paths:
        labels.check_display_name(job.display_name, limits, noted)
    noted.refuse_any()
    edit = JobEdit(
        priority=job.priority if "priority" in paths else None,
        labels=dict(job.labels) if "labels" in paths else None,
        display_name=job.display_name if "display_name" in paths else None,
    )
    return JobId(job_id), edit


@dataclass(frozen=True)
class Retry:
    """What RetryJob asks for; empty texts mean none."""

    job_id: JobId
    output_dir: str
    request_id: str


def retry_of(request: job_service_pb2.RetryJobRequest) -> Retry:
    """Which job is to be done again, and where its result goes."""
    noted = Violations()
    job_id, output_dir = "", ""
    with noted.noting("name"):
        job_id = names.job_id(request.name)
    if request.output_dir:
        with noted.noting("output_dir"):
            output_dir = text_rules.output_dir(request.output_dir)
    labels.check_request_id(request.request_id, noted)
    noted.refuse_any()
    return Retry(JobId(job_id), output_dir, request.request_id)


@dataclass(frozen=True)
class ListQuestion:
    """A query, and how its answer's page tokens are sealed."""

    query: JobQuery
    asked: tuple[object, ...]
    tokens: PageTokens

    def token_after(self, position: Position) -> str:
        """The token for the page that follows."""
        return self.tokens.seal(self.asked, (*position.values, position.job_id))


def question_of(
    request: job_service_pb2.ListJobsRequest, tokens: PageTokens, page_max: int
) -> ListQuestion:
    """What a list asks for. Raises InvalidRequest with every bad field."""
    noted = Violations()
    page_size = page_size_of(request.page_size, page_max, noted)
    expression, order, after = None, None, None
    with noted.noting("filter"):
        expression = parse_filter(request.filter)
    with noted.noting("order_by"):
        order = parse_order(request.order_by)
    asked = ("jobs", request.filter.strip(), request.order_by.strip(), request.show_deleted)
    if request.page_token and order is not None:
        with noted.noting("page_token"):
            after = _position(tokens.open(asked, request.page_token), order)
    noted.refuse_any()
    assert order is not None
    query = JobQuery(page_size, expression, order, after, request.show_deleted)
    return ListQuestion(query, asked, tokens)


def _check_record(job: job_pb2.Job, limits: RecordLimits, noted: Violations) -> None:
    labels.check_display_name(job.display_name, limits, noted)
    labels.check_labels(job.labels, limits, noted)
    labels.check_priority(job.priority, noted)


def _spec_of(job: job_pb2.Job, noted: Violations) -> JobSpec | None:
    if not job.HasField("spec"):
        noted.add("job.spec", "is required")
        return None
    with noted.noting("job.spec"):
        return spec_from_proto(job.spec, "job.spec")
    return None


def _from_recipe(job: job_pb2.Job, noted: Violations) -> FromRecipe | None:
    with noted.noting("job.recipe"):
        ref = recipe_ref_of(job.recipe, "job.recipe")
        violations: list[Violation] = []
        given = values_from_proto(job.spec, violations)
        return FromRecipe(ref, given, (*noted.found, *violations))
    return None


def _position(values: tuple[Value, ...], order: tuple[OrderTerm, ...]) -> Position:
    if len(values) != len(order) + 1:
        raise BadPageToken("is not a token of this list")
    return Position(values[:-1], JobId(str(values[-1])))
