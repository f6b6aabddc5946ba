"""What rows mean."""

from typing import Any

import pytest

from trainer_svc.child.dialogue import (
    Message,
    RowBroken,
    RowFormat,
    Unusable,
    format_of,
    to_dialogue,
)


def test_lccc_turns_alternate_and_lose_their_spaces() -> None:
    dialogue = to_dialogue(["你 好 吗", "很 好", "那 就 好", "嗯"], RowFormat.LCCC, "")

    assert dialogue == (
        Message("user", "你好吗"),
        Message("assistant", "很好"),
        Message("user", "那就好"),
        Message("assistant", "嗯"),
    )


def test_a_last_turn_without_an_answer_is_left_off() -> None:
    dialogue = to_dialogue({"dialog": ["a", "b", "c"]}, RowFormat.LCCC, "")

    assert dialogue == (Message("user", "a"), Message("assistant", "b"))


def test_the_system_prompt_comes_first_unless_the_row_has_one() -> None:
    own = {"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "a"}]}

    without = to_dialogue(["a", "b"], RowFormat.LCCC, "be kind")
    with_own = to_dialogue(own, RowFormat.MESSAGES, "be kind")

    assert not isinstance(without, Unusable)
    assert without[0] == Message("system", "be kind")
    assert with_own == (Message("system", "s"), Message("assistant", "a"))


@pytest.mark.parametrize(
    ("row", "row_format", "reason"),
    [
        ([], RowFormat.LCCC, Unusable.EMPTY),
        ([" ", ""], RowFormat.LCCC, Unusable.EMPTY),
        (["only one"], RowFormat.LCCC, Unusable.NO_ASSISTANT_TURN),
        ({"messages": []}, RowFormat.MESSAGES, Unusable.EMPTY),
        (
            {"messages": [{"role": "user", "content": "q"}]},
            RowFormat.MESSAGES,
            Unusable.NO_ASSISTANT_TURN,
        ),
    ],
)
def test_sound_rows_of_no_use_are_told_apart(
    row: Any, row_format: RowFormat, reason: Unusable
) -> None:
    assert to_dialogue(row, row_format, "") is reason


@pytest.mark.parametrize(
    ("row", "row_format", "message"),
    [
        ("text", RowFormat.LCCC, "expected a list of utterances, found a text"),
        (["a", 3], RowFormat.LCCC, "utterance 2: expected a text, found a number"),
        ({"dialog": None}, RowFormat.LCCC, "found nothing"),
        ({"dialog": ["a"]}, RowFormat.MESSAGES, 'expected "messages" with a list'),
        ({"messages": ["a"]}, RowFormat.MESSAGES, "message 1: expected an object"),
        ({"messages": [{"role": "bot", "content": "a"}]}, RowFormat.MESSAGES, "role 'bot'"),
        ({"messages": [{"role": "user", "content": None}]}, RowFormat.MESSAGES, "found nothing"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
            RowFormat.MESSAGES,
            "tool calls",
        ),
    ],
)
def test_rows_of_wrong_types_are_refused(row: Any, row_format: RowFormat, message: str) -> None:
    with pytest.raises(RowBroken, match=message):
        to_dialogue(row, row_format, "")


def test_the_format_is_found_from_the_first_row() -> None:
    assert format_of(["a", "b"]) is RowFormat.LCCC
    assert format_of({"dialog": []}) is RowFormat.LCCC
    assert format_of({"messages": []}) is RowFormat.MESSAGES
    with pytest.raises(RowBroken, match="found: input, instruction"):
        format_of({"instruction": "a", "input": "b"})
