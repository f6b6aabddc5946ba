"""ListJobs filters and orders: what they mean, and what a caller reads if they are wrong."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler_svc.domain.query import (
    DEFAULT_ORDER,
    And,
    Comparison,
    Field,
    Label,
    Not,
    Operator,
    Or,
    OrderField,
    OrderTerm,
)
from scheduler_svc.rpc.filters import BadFilter, parse_filter, parse_order

RUNNING = Comparison(Field.STATE, Operator.EQUAL, "JOB_STATE_RUNNING")
QUEUED = Comparison(Field.STATE, Operator.EQUAL, "JOB_STATE_QUEUED")
URGENT = Comparison(Field.PRIORITY, Operator.GREATER_OR_EQUAL, 5)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("", None),
        ("   ", None),
        ("state=RUNNING", RUNNING),
        ("state = running", RUNNING),
        ('state="JOB_STATE_RUNNING"', RUNNING),
        ("state:run", Comparison(Field.STATE, Operator.CONTAINS, "RUN")),
        ("backend!=qlora", Comparison(Field.BACKEND, Operator.NOT_EQUAL, "BACKEND_QLORA")),
        ("priority>=-5", Comparison(Field.PRIORITY, Operator.GREATER_OR_EQUAL, -5)),
        ("trainer=gpu-1", Comparison(Field.TRAINER, Operator.EQUAL, "trainers/gpu-1")),
        ("trainer=trainers/a", Comparison(Field.TRAINER, Operator.EQUAL, "trainers/a")),
        ("retry_of=jobs/a", Comparison(Field.RETRY_OF, Operator.EQUAL, "jobs/a")),
        ("model_kind=vlm", Comparison(Field.MODEL_KIND, Operator.EQUAL, "MODEL_KIND_VLM")),
        (
            'model_kind != "MODEL_KIND_LLM"',
            Comparison(Field.MODEL_KIND, Operator.NOT_EQUAL, "MODEL_KIND_LLM"),
        ),
        ("recipe=r@1", Comparison(Field.RECIPE, Operator.EQUAL, "recipes/r@1")),
        (
            'recipe = "recipes/llm-swift@1"',
            Comparison(Field.RECIPE, Operator.EQUAL, "recipes/llm-swift@1"),
        ),
        (
            'recipe : "recipes/llm-swift@"',
            Comparison(Field.RECIPE, Operator.CONTAINS, "recipes/llm-swift@"),
        ),
        ("labels.team.x=nlp", Comparison(Label("team.x"), Operator.EQUAL, "nlp")),
        ("labels.team:*", Comparison(Label("team"), Operator.CONTAINS, "*")),
        (r'display_name="a \"b\" c"', Comparison(Field.DISPLAY_NAME, Operator.EQUAL, 'a "b" c')),
        ("display_name='AND'", Comparison(Field.DISPLAY_NAME, Operator.EQUAL, "AND")),
        ("NOT state=QUEUED", Not(QUEUED)),
        ("-state=QUEUED", Not(QUEUED)),
        ("state=RUNNING AND priority>=5", And((RUNNING, URGENT))),
        ("(state=RUNNING)AND(priority>=5)", And((RUNNING, URGENT))),
        (
            "create_time>2026-01-31T12:00:00Z",
            Comparison(Field.CREATE_TIME, Operator.GREATER, datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ),
        (
            'end_time<="2026-01-31T12:00:00+01:00"',
            Comparison(
                Field.END_TIME, Operator.LESS_OR_EQUAL, datetime(2026, 1, 31, 11, tzinfo=UTC)
            ),
        ),
    ],
)
def test_a_filter_means(text, expression):
    assert parse_filter(text) == expression


def test_or_binds_tighter_than_and():
    parsed = parse_filter("priority>=5 AND state=RUNNING OR state=QUEUED")

    assert parsed == And((URGENT, Or((RUNNING, QUEUED))))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state=", ["position 6", "a value", "the end"]),
        ("state", ["position 5", "an operator"]),
        ("state=RUNNING AND", ["position 17", "a field"]),
        ("(state=RUNNING", ["position 14", "')'"]),
        ("state=HELD)", ["position 10", "the end"]),
        ("state=HELD state=QUEUED", ["position 11", "AND or OR", "'state=QUEUED'"]),
        ("state==HELD", ["position 6", "a value"]),
        ('display_name="abc', ["position 13", "a value"]),
        ("colour=red", ["position 0", "unknown field 'colour'", "output_dir", "labels.<key>"]),
        ("state=HELD AND colour=red", ["position 15", "'colour'"]),
        ("labels.-x=red", ["position 0", "label key"]),
        ("priority=high", ["position 0", "whole number"]),
        ("priority=99999999999999999999", ["too large"]),
        ("priority:1", ["contains"]),
        ("state<RUNNING", ["no order"]),
        ("state=LATE", ["'LATE'", "QUEUED"]),
        ("model_kind=llvm", ["'llvm' is none of LLM, VLM"]),
        ("model_kind>LLM", ["no order"]),
        ("recipe=support", ["as in support@1", 'recipe:"recipes/support@" finds them all']),
        ("recipe=recipes/support", ["as in support@1", 'recipe:"recipes/support@" finds']),
        ("create_time>yesterday", ["a time like"]),
        ("create_time>0001-01-01T00:00:00+14:00", ["a time like"]),
        ("display_name=\0", ["U+0000", "13"]),
        ("(" * 2000, ["position 2000"]),
        ("NOT (" * 21 + "state=HELD" + ")" * 21, ["nested"]),
        (" AND ".join(["state=HELD"] * 101), ["comparisons"]),
        ("x" * 5000, ["4096"]),
    ],
)
def test_a_bad_filter_is_refused_with_place_and_expectation(text, words):
    with pytest.raises(BadFilter) as caught:
        parse_filter(text)

    for word in words:
        assert word in str(caught.value)


@given(st.text(alphabet="stae=RUNIG ()ANDOR-\"'\\:<>!.labelsprioty\0é5", max_size=60))
def test_no_text_breaks_the_parser(text):
    try:
        parse_filter(text)
    except BadFilter as bad:
        message = str(bad)
    else:
        message = "parsed"

    assert message


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("", DEFAULT_ORDER),
        ("priority desc", (OrderTerm(OrderField.PRIORITY, descending=True),)),
        (
            "display_name, create_time desc",
            (
                OrderTerm(OrderField.DISPLAY_NAME),
                OrderTerm(OrderField.CREATE_TIME, descending=True),
            ),
        ),
    ],
)
def test_an_order_means(text, order):
    assert parse_order(text) == order


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour", "'colour'"),
        ("priority down", "'down'"),
        ("priority desc desc", "'desc'"),
        ("priority,", "expected one of"),
        ("priority, priority desc", "once"),
    ],
)
def test_a_bad_order_is_refused(text, words):
    with pytest.raises(BadFilter) as caught:
        parse_order(text)

    assert words in str(caught.value)
