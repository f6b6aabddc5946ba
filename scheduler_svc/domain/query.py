"""Which jobs a list asks for: a filter, an order, and where to go on.

Owns the closed set of fields, and what a filter means (`matches`, `precedes`);
storage translates the same meaning to SQL. Refuses nothing: whoever parses a
filter's text refuses what does not fit these types.

Meaning: a comparison with something a job does not have (no such label, no
end_time yet, no trainer, no recipe) is false, except "!=", which is true. Texts compare
by code point, and ":" is "contains", case kept; `labels.k:*` asks for the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from scheduler_svc.domain.job import Job, JobId


class Field(StrEnum):
    """What a filter may name, besides labels."""

    STATE = "state"
    PRIORITY = "priority"
    ATTEMPT = "attempt"
    TRAINER = "trainer"
    DISPLAY_NAME = "display_name"
    BACKEND = "backend"
    MODEL = "model"
    OUTPUT_DIR = "output_dir"
    RETRY_OF = "retry_of"
    MODEL_KIND = "model_kind"
    RECIPE = "recipe"
    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"
    END_TIME = "end_time"


@dataclass(frozen=True, slots=True)
class Label:
    """labels.<key>."""

    key: str


FieldRef: TypeAlias = Field | Label
Value: TypeAlias = str | int | datetime

# The type of the value that each field is compared with. state, backend and model_kind
# take proto names ("JOB_STATE_RUNNING", "BACKEND_QLORA"); trainer, retry_of and recipe
# take resource names ("trainers/a", "jobs/b", "recipes/c@1"); a label takes str.
FIELD_TYPES: Mapping[Field, type[str] | type[int] | type[datetime]] = MappingProxyType(
    {
        Field.STATE: str,
        Field.PRIORITY: int,
        Field.ATTEMPT: int,
        Field.TRAINER: str,
        Field.DISPLAY_NAME: str,
        Field.BACKEND: str,
        Field.MODEL: str,
        Field.OUTPUT_DIR: str,
        Field.RETRY_OF: str,
        Field.MODEL_KIND: str,
        Field.RECIPE: str,
        Field.CREATE_TIME: datetime,
        Field.UPDATE_TIME: datetime,
        Field.END_TIME: datetime,
    }
)


class Operator(StrEnum):
    """How a field is compared. CONTAINS is for texts only."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    CONTAINS = ":"


@dataclass(frozen=True, slots=True)
class Comparison:
    """field operator value; the value's type is FIELD_TYPES[field], str for a label."""

    field: FieldRef
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them."""

    terms: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not that."""

    term: Expression


Expression: TypeAlias = Comparison | And | Or | Not


class OrderField(StrEnum):
    """What a list may be ordered by."""

    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"
    PRIORITY = "priority"
    DISPLAY_NAME = "display_name"


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """One key of the order."""

    field: OrderField
    descending: bool = False


DEFAULT_ORDER = (OrderTerm(OrderField.CREATE_TIME, descending=True),)


@dataclass(frozen=True, slots=True)
class Position:
    """The last job of a page: its value for each order term, and its id, which breaks ties
    (in the direction of the last term)."""

    values: tuple[Value, ...]
    job_id: JobId


@dataclass(frozen=True, slots=True)
class JobQuery:
    """One page of jobs. `order` names each field at most once and is never empty."""

    page_size: int
    """1 to 1000."""
    filter: Expression | None = None
    order: tuple[OrderTerm, ...] = DEFAULT_ORDER
    after: Position | None = None
    show_deleted: bool = False


def position_of(job: Job, order: tuple[OrderTerm, ...]) -> Position:
    """Where a page that ends with this job ends."""
    return Position(tuple(_order_value(job, term.field) for term in order), job.job_id)


def precedes(left: Position, right: Position, order: tuple[OrderTerm, ...]) -> bool:
    """Whether `left` comes before `right` in this order."""
    descending = [term.descending for term in order]
    pairs = zip(
        (*left.values, left.job_id),
        (*right.values, right.job_id),
        (*descending, descending[-1]),
        strict=True,
    )
    for one, other, reverse in pairs:
        if one != other:
            return _less(other, one) if reverse else _less(one, other)
    return False


def matches(expression: Expression | None, job: Job) -> bool:
    """Whether a filter lets this job through."""
    match expression:
        case None:
            return True
        case And(terms):
            return all(matches(term, job) for term in terms)
        case Or(terms):
            return any(matches(term, job) for term in terms)
        case Not(term):
            return not matches(term, job)
        case Comparison():
            return _compares(expression, job)


def _compares(comparison: Comparison, job: Job) -> bool:
    actual = field_value(job, comparison.field)
    if actual is None:
        return comparison.operator is Operator.NOT_EQUAL
    wanted = comparison.value
    match comparison.operator:
        case Operator.EQUAL:
            return actual == wanted
        case Operator.NOT_EQUAL:
            return actual != wanted
        case Operator.CONTAINS:
            anything = isinstance(comparison.field, Label) and wanted == "*"
            return anything or str(wanted) in str(actual)
        case Operator.LESS:
            return _less(actual, wanted)
        case Operator.GREATER:
            return _less(wanted, actual)
        case Operator.LESS_OR_EQUAL:
            return not _less(wanted, actual)
        case Operator.GREATER_OR_EQUAL:
            return not _less(actual, wanted)


def field_value(job: Job, field: FieldRef) -> Value | None:
    """The value a filter compares with; None where the job has none."""
    if isinstance(field, Label):
        return job.labels.get(field.key)
    return _FIELD_VALUES[field](job)


def _trainer(job: Job) -> str | None:
    return f"trainers/{job.current.trainer_id}" if job.current else None


_FIELD_VALUES: Mapping[Field, Callable[[Job], Value | None]] = {
    Field.STATE: lambda job: str(job.state.value),
    Field.PRIORITY: lambda job: job.priority,
    Field.ATTEMPT: lambda job: job.attempt,
    Field.TRAINER: _trainer,
    Field.DISPLAY_NAME: lambda job: job.display_name,
    Field.BACKEND: lambda job: str(job.spec.backend.value),
    Field.MODEL: lambda job: job.spec.model.name,
    Field.OUTPUT_DIR: lambda job: job.spec.output_dir,
    Field.RETRY_OF: lambda job: f"jobs/{job.retry_of}" if job.retry_of else None,
    Field.MODEL_KIND: lambda job: str(job.spec.model_kind.value),
    Field.RECIPE: lambda job: job.recipe or None,
    Field.CREATE_TIME: lambda job: job.create_time,
    Field.UPDATE_TIME: lambda job: job.update_time,
    Field.END_TIME: lambda job: job.end_time,
}


def _order_value(job: Job, field: OrderField) -> Value:
    value: Value = getattr(job, field.value)
    return value


def _less(left: Value, right: Value) -> bool:
    if isinstance(left, datetime) and isinstance(right, datetime):
        return left < right
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    return str(left) < str(right)
