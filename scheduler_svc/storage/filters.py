"""A job query in SQL, with the meaning that domain.query gives it.

Values are always bound, never put into the text. Comparisons with what a job
does not have are false, not NULL, so that NOT means not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, String, and_, exists, false, func, literal, not_, or_, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Integer

from scheduler_svc.domain.query import (
    And,
    Comparison,
    Expression,
    Field,
    JobQuery,
    Label,
    Not,
    Operator,
    Or,
    OrderTerm,
    Position,
    Value,
)
from scheduler_svc.storage.tables import job_labels, jobs

_INT32_MAX = 2**31 - 1

_COLUMNS: Mapping[Field, ColumnElement[Any]] = {
    Field.STATE: jobs.c.state,
    Field.PRIORITY: jobs.c.priority,
    Field.ATTEMPT: jobs.c.attempt,
    Field.TRAINER: literal("trainers/", String) + jobs.c.trainer_id,
    Field.DISPLAY_NAME: jobs.c.display_name,
    Field.BACKEND: jobs.c.backend,
    Field.MODEL: jobs.c.model,
    Field.OUTPUT_DIR: jobs.c.output_dir,
    Field.RETRY_OF: literal("jobs/", String) + jobs.c.retry_of,
    Field.MODEL_KIND: jobs.c.model_kind,
    Field.RECIPE: jobs.c.recipe,
    Field.CREATE_TIME: jobs.c.create_time,
    Field.UPDATE_TIME: jobs.c.update_time,
    Field.END_TIME: jobs.c.end_time,
}
_NULLABLE = frozenset({Field.TRAINER, Field.RETRY_OF, Field.RECIPE, Field.END_TIME})


class _Place(FunctionElement[int]):
    """Where the second text first stands in the first, from 1; 0 if it does not. Keeps case."""

    type = Integer()
    inherit_cache = True
    name = "place"


@compiles(_Place, "sqlite")
def _place_sqlite(element: _Place, compiler: SQLCompiler, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(_Place, "postgresql")
def _place_postgresql(element: _Place, compiler: SQLCompiler, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


def conditions(query: JobQuery) -> list[ColumnElement[bool]]:
    """The WHERE of a list."""
    found: list[ColumnElement[bool]] = []
    if query.filter is not None:
        found.append(condition(query.filter))
    if not query.show_deleted:
        found.append(jobs.c.delete_time.is_(None))
    if query.after is not None:
        found.append(_after(query.after, query.order))
    return found


def ordering(order: tuple[OrderTerm, ...]) -> list[ColumnElement[Any]]:
    """The ORDER BY of a list; the id breaks ties in the direction of the last term."""
    return [column.desc() if descending else column.asc() for column, descending in _keys(order)]


def condition(expression: Expression) -> ColumnElement[bool]:
    """A filter as a condition that is never NULL."""
    match expression:
        case And(terms):
            return and_(*(condition(term) for term in terms))
        case Or(terms):
            return or_(*(condition(term) for term in terms))
        case Not(term):
            return not_(condition(term))
        case Comparison():
            if isinstance(expression.field, Label):
                return _label(expression.field, expression.operator, expression.value)
            return _field(expression.field, expression.operator, expression.value)


def _field(field: Field, operator: Operator, value: Value) -> ColumnElement[bool]:
    column = _COLUMNS[field]
    compared = _compared(column, operator, value)
    if field not in _NULLABLE:
        return compared
    if operator is Operator.NOT_EQUAL:
        return or_(column.is_(None), compared)
    return func.coalesce(compared, false())


def _label(label: Label, operator: Operator, value: Value) -> ColumnElement[bool]:
    there = exists().where(job_labels.c.job_id == jobs.c.job_id, job_labels.c.key == label.key)
    if operator is Operator.CONTAINS and value == "*":
        return there
    if operator is Operator.NOT_EQUAL:
        return not_(there.where(job_labels.c.value == value))
    return there.where(_compared(job_labels.c.value, operator, value))


def _compared(column: ColumnElement[Any], operator: Operator, value: Value) -> ColumnElement[bool]:
    if isinstance(value, int):
        # No priority or attempt is out of this range; a number beyond it is still beyond all.
        value = max(-_INT32_MAX, min(_INT32_MAX, value))
    match operator:
        case Operator.EQUAL:
            return column == value
        case Operator.NOT_EQUAL:
            return column != value
        case Operator.LESS:
            return column < value
        case Operator.LESS_OR_EQUAL:
            return column <= value
        case Operator.GREATER:
            return column > value
        case Operator.GREATER_OR_EQUAL:
            return column >= value
        case Operator.CONTAINS:
            return _Place(column, literal(str(value), String)) > 0


def _keys(order: tuple[OrderTerm, ...]) -> list[tuple[ColumnElement[Any], bool]]:
    keys: list[tuple[ColumnElement[Any], bool]] = [
        (jobs.c[term.field.value], term.descending) for term in order
    ]
    return [*keys, (jobs.c.job_id, order[-1].descending)]


def _after(position: Position, order: tuple[OrderTerm, ...]) -> ColumnElement[bool]:
    keys = _keys(order)
    values: list[Any] = [*position.values, position.job_id]
    if len({descending for _, descending in keys}) == 1:
        # One row comparison, which an index answers.
        left = tuple_(*(column for column, _ in keys))
        right = tuple_(
            *(literal(value, column.type) for (column, _), value in zip(keys, values, strict=True))
        )
        return left < right if keys[0][1] else left > right
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (column, descending), value in zip(keys, values, strict=True):
        beyond = column < value if descending else column > value
        alternatives.append(and_(*equal, beyond))
        equal.append(column == value)
    return or_(*alternatives)
