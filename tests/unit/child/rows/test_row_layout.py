"""Finding out what the fields of a source are called."""

from typing import Any

import pytest

from svckit.spec.data_fields import FIELDS_OF
from svckit.spec.enums import DataFormat
from trainer_svc.child.rows.broken import RowBroken
from trainer_svc.child.rows.formats import FORMAT_FIELDS, RowFormat
from trainer_svc.child.rows.layout import (
    PRESETS,
    Layout,
    columns_read,
    find_layout,
    layout_of_names,
)
from trainer_svc.child.rows.reading import to_dialogue


def turns_of(row: Any, **columns: str) -> list[tuple[str, str]]:
    layout = find_layout(row, None, columns)
    dialogue = to_dialogue(layout.standard(row), layout.row_format, "")
    assert isinstance(dialogue, tuple)
    return [(turn.role, turn.content) for turn in dialogue]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"question": "q", "answer": "a"}, [("user", "q"), ("assistant", "a")]),
        (
            {"instruction": "i", "context": "c", "response": "r", "category": "qa"},
            [("user", "i\nc"), ("assistant", "r")],
        ),
        (
            {"query": "q", "response": "r", "system": "s", "history": [["a", "b"]]},
            [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "q"), ("assistant", "r")],
        ),
        (
            {"id": 1, "system_prompt": "s", "question": "q", "response": "r"},
            [("system", "s"), ("user", "q"), ("assistant", "r")],
        ),
        ({"prompt": "p", "response": "r"}, [("user", "p"), ("assistant", "r")]),
        ({"input": "i", "output": "o"}, [("user", "i"), ("assistant", "o")]),
        (
            {"Instruction": "i", "Input": "x", "Output": "o"},
            [("user", "i\nx"), ("assistant", "o")],
        ),
        ({"Question": "q", "Answer": "a"}, [("user", "q"), ("assistant", "a")]),
        ({"TEXT": "t"}, [("assistant", "t")]),
    ],
)
def test_well_known_names_are_recognised(row: Any, turns: list[tuple[str, str]]) -> None:
    assert turns_of(row) == turns


def test_what_was_recognised_can_be_said() -> None:
    layout = find_layout({"question": "q", "context": "c", "answer": "a"}, None, {})

    assert layout == Layout(
        RowFormat.ALPACA, {"input": "context", "instruction": "question", "output": "answer"}
    )


@pytest.mark.parametrize(
    "row",
    [
        {"question": "q", "answers": ["a"]},
        {"Text": "a", "TEXT": "b"},
        {"instruction": "i"},
        {"INSTRUCTION": "i", "Instruction": "i", "output": "o"},
        {"prompt": "p"},
    ],
)
def test_names_that_leave_a_doubt_are_not(row: Any) -> None:
    with pytest.raises(RowBroken, match="expected one of the keys"):
        find_layout(row, None, {})


def test_the_job_says_what_fields_are_called() -> None:
    row = {"q": "ask", "a": "say", "instruction": "another thing"}
    layout = find_layout(row, None, {"instruction": "q", "output": "a"})

    assert turns_of(row, instruction="q", output="a") == [("user", "ask"), ("assistant", "say")]
    assert layout.shadowed(row) == ["instruction"]


def test_columns_may_trade_names() -> None:
    row = {"output": "ask", "instruction": "say"}

    turns = turns_of(row, instruction="output", output="instruction")

    assert turns == [("user", "ask"), ("assistant", "say")]


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(RowBroken, match=r'has no "quest", named in columns; it has: question, a$'):
        find_layout({"question": "q", "a": "b"}, None, {"instruction": "quest", "output": "a"})


def test_columns_of_no_format_say_which_fields_are_missing() -> None:
    with pytest.raises(RowBroken, match=r'"instruction" and "output".*found: b, instruction$'):
        find_layout({"a": "q", "b": "x"}, None, {"instruction": "a"})


def test_the_format_that_the_job_names_is_looked_for_alone() -> None:
    row = {"messages": [], "question": "q", "answer": "a"}

    assert find_layout(row, RowFormat.ALPACA, {}).columns == {
        "instruction": "question",
        "output": "answer",
    }
    assert find_layout(row, RowFormat.TEXT, {}) == Layout(RowFormat.TEXT)


def test_of_a_table_only_what_means_something_is_read() -> None:
    exact = ["id", "instruction", "output", "question", "tools", "label"]
    preset = ["Question", "note", "Answer", "rejected"]

    assert columns_read(exact, None, {}) == ["instruction", "output", "tools", "label"]
    assert columns_read(preset, None, {}) == ["Question", "Answer", "rejected"]
    assert columns_read(["a", "b", "c"], None, {"instruction": "a", "output": "c"}) == ["a", "c"]
    assert columns_read(["a", "b"], None, {"instruction": "a", "output": "c"}) is None
    assert columns_read(["a", "b"], None, {}) is None
    assert columns_read(["a", "b"], RowFormat.ALPACA, {}) is None
    assert columns_read(["a", "label"], RowFormat.ALPACA, {}) == ["label"]


def test_presets_make_whole_rows() -> None:
    formats = {frozenset(fields) for fields, _ in FORMAT_FIELDS}

    assert all(frozenset(must.values()) in formats for must, _ in PRESETS)
    for must, may in PRESETS:
        layout = layout_of_names([*must, *may], None, {})
        assert layout is not None
        known = FIELDS_OF[DataFormat.parse(layout.row_format.value)]
        assert layout.columns.keys() <= known
