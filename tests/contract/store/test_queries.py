"""Lists mean the same on every store: what domain.query says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler_svc.application.ports import Store
from scheduler_svc.domain.job import Job, JobId
from scheduler_svc.domain.query import (
    FIELD_TYPES,
    And,
    Comparison,
    Expression,
    Field,
    JobQuery,
    Label,
    Not,
    Operator,
    Or,
    OrderField,
    OrderTerm,
    Position,
    matches,
    position_of,
)
from scheduler_svc.domain.states import JobState
from tests.unit.scheduler.builders import at, attempt, cpu, gpus, job, spec

ORDERED = [operator for operator in Operator if operator is not Operator.CONTAINS]


def some_jobs() -> list[Job]:
    """Jobs that differ in everything a list can ask for, ties included."""
    swift = spec("b/out", gpus(1), backend="swift", model_kind="vlm")
    return [
        job("a", display_name="Alpha", labels={"team": "nlp", "x": ""}, priority=1),
        job("b", spec=swift, display_name="beta", labels={"team": "vision"}, create_time=at(1),
            recipe="recipes/r@1"),
        job("c", JobState.HELD, display_name="alpha", priority=1, create_time=at(1)),
        job("d", JobState.FAILED, display_name="Ünïcode%_", end_time=at(9), retry_of=JobId("a")),
        job("e", JobState.RUNNING, attempt=1, attempts=(attempt(1, "trainer-1"),), priority=-3),
        job("f", JobState.SUCCEEDED, end_time=at(5), create_time=at(-5), update_time=at(7),
            recipe="recipes/r@2"),
        replace(job("g", display_name="Zoë 🎈", labels={"team": "NLP"}), delete_time=at(3)),
    ]  # fmt: skip


def filled(store: Store) -> list[Job]:
    jobs = some_jobs()
    with store.write() as tx:
        if tx.job(JobId("a")) is None:
            for one in jobs:
                tx.insert_job(one)
    return jobs


def ids(store: Store, query: JobQuery) -> list[str]:
    with store.read() as tx:
        return [one.job_id for one in tx.list_jobs(query)]


texts = st.sampled_from(
    ["", "a", "alpha", "Alpha", "nlp", "vision", "trainers/trainer-1", "jobs/a", "%", "_", "ë",
     "BACKEND_QLORA", "JOB_STATE_RUNNING", "MODEL_KIND_VLM", "recipes/r@1", "recipes/r@",
     "out", "Ü", "🎈", "zzz", "'; DROP TABLE jobs; --"]
)  # fmt: skip


def comparisons() -> st.SearchStrategy[Expression]:
    values = {
        str: texts,
        int: st.sampled_from([-(10**30), -3, 0, 1, 10**30]),
        datetime: st.sampled_from([at(seconds) for seconds in (-5, 0, 1, 5, 7, 9)]),
    }
    by_field = [
        st.builds(
            Comparison,
            st.just(field),
            st.sampled_from(list(Operator) if kind is str else ORDERED),
            values[kind],
        )
        for field, kind in FIELD_TYPES.items()
    ]
    labels = st.builds(
        Comparison,
        st.builds(Label, st.sampled_from(["team", "x", "none"])),
        st.sampled_from(list(Operator)),
        st.one_of(texts, st.just("*")),
    )
    return st.one_of(*by_field, labels)


expressions = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)
orders = st.lists(
    st.builds(OrderTerm, st.sampled_from(OrderField), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda term: term.field,
).map(tuple)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(expression=expressions)
def test_a_filter_finds_what_it_means(store: Store, expression: Expression) -> None:
    jobs = filled(store)

    found = ids(store, JobQuery(100, expression, show_deleted=True))

    assert sorted(found) == [one.job_id for one in jobs if matches(expression, one)]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=orders, page_size=st.integers(1, 4))
def test_pages_join_to_the_whole_list(
    store: Store, order: tuple[OrderTerm, ...], page_size: int
) -> None:
    jobs = {one.job_id: one for one in filled(store)}

    whole = ids(store, JobQuery(100, order=order))
    walked: list[str] = []
    after: Position | None = None
    while page := ids(store, JobQuery(page_size, order=order, after=after)):
        walked += page
        after = position_of(jobs[JobId(page[-1])], order)

    assert walked == whole
    assert sorted(whole) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((OrderTerm(OrderField.CREATE_TIME, descending=True),), "cbedaf"),
        ((OrderTerm(OrderField.PRIORITY, descending=True),), "cafdbe"),
        ((OrderTerm(OrderField.PRIORITY, descending=True), OrderTerm(OrderField.CREATE_TIME)),
         "acfdbe"),
        ((OrderTerm(OrderField.DISPLAY_NAME),), "efacbd"),
        ((OrderTerm(OrderField.UPDATE_TIME),), "abcdef"),
    ],
)  # fmt: skip
def test_an_order_is_kept(store: Store, order: tuple[OrderTerm, ...], expected: str) -> None:
    filled(store)

    found = ids(store, JobQuery(100, order=order))

    assert "".join(found) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Comparison(Field.RECIPE, Operator.EQUAL, "recipes/r@1"), "b"),
        (Comparison(Field.RECIPE, Operator.CONTAINS, "recipes/r@"), "bf"),
        (Comparison(Field.RECIPE, Operator.NOT_EQUAL, "recipes/r@1"), "acdef"),
        (Not(Comparison(Field.RECIPE, Operator.EQUAL, "recipes/r@1")), "acdef"),
        (Not(Comparison(Field.RECIPE, Operator.CONTAINS, "r@")), "acde"),
        (Comparison(Field.MODEL_KIND, Operator.EQUAL, "MODEL_KIND_VLM"), "b"),
        (Comparison(Field.MODEL_KIND, Operator.NOT_EQUAL, "MODEL_KIND_VLM"), "acdef"),
    ],
)
def test_jobs_without_a_recipe_are_found_by_what_they_are_not(
    store: Store, expression: Expression, expected: str
) -> None:
    filled(store)

    found = ids(store, JobQuery(100, expression))

    assert "".join(sorted(found)) == expected


def test_deleted_jobs_are_shown_only_when_asked_for(store: Store) -> None:
    filled(store)

    shown = ids(store, JobQuery(100, show_deleted=True))
    usual = ids(store, JobQuery(100))

    assert set(shown) - set(usual) == {"g"}


def test_every_field_has_a_type() -> None:
    assert set(FIELD_TYPES) == set(Field)
    assert cpu().gpu_count == 0
