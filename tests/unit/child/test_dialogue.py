"""What rows mean."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_svc.child.dialogue import ROLES, Message, Unusable
from trainer_svc.child.rows.broken import RowBroken
from trainer_svc.child.rows.formats import FIELDS, RowFormat
from trainer_svc.child.rows.layout import find_layout
from trainer_svc.child.rows.reading import to_dialogue
from trainer_svc.child.rows.refusals import RowRefused


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
        ("text", RowFormat.LCCC, "expected a list of utterances, found a string"),
        (["a", 3], RowFormat.LCCC, "utterance 2: expected a string, found a number"),
        ({"dialog": None}, RowFormat.LCCC, "found nothing"),
        ({"dialog": ["a"]}, RowFormat.MESSAGES, 'expected "messages" with a list'),
        ({"messages": ["a"]}, RowFormat.MESSAGES, "message 1: expected an object"),
        ({"messages": [{"role": "me", "content": "a"}]}, RowFormat.MESSAGES, "role 'me'"),
        ({"messages": [{"content": "a"}]}, RowFormat.MESSAGES, '"role" with a role'),
        ({"messages": [{"role": "user", "content": None}]}, RowFormat.MESSAGES, "found nothing"),
        ({"instruction": 3, "output": "a"}, RowFormat.ALPACA, '"instruction" with a string'),
        ({"instruction": "q", "output": None}, RowFormat.ALPACA, '"output" with a string'),
        ({"output": "a"}, RowFormat.ALPACA, '"instruction" with a string, found nothing'),
        ({"instruction": "", "output": "a", "history": [["q"]]}, RowFormat.ALPACA, "history 1"),
        ({"instruction": "", "output": "a", "history": "q"}, RowFormat.ALPACA, "found a string"),
        ({"conversations": "q"}, RowFormat.SHAREGPT, '"conversations" with a list'),
        ({"conversations": ["q"]}, RowFormat.SHAREGPT, "turn 1: expected an object"),
        ({"conversations": [{"from": "me"}]}, RowFormat.SHAREGPT, "unknown role 'me'"),
        ({"conversations": [{"from": ["a"]}]}, RowFormat.SHAREGPT, '"from" with a role'),
        ({"conversations": [{"from": "gpt"}]}, RowFormat.SHAREGPT, '"value" with a string'),
        ({"prompt": "q", "completion": []}, RowFormat.PROMPT_COMPLETION, "a string and a list"),
        ({"prompt": ["q"], "completion": []}, RowFormat.PROMPT_COMPLETION, "message 1"),
        ({"text": ["t"]}, RowFormat.TEXT, '"text" with a string, found a list'),
    ],
)
def test_rows_of_wrong_types_are_refused(row: Any, row_format: RowFormat, message: str) -> None:
    with pytest.raises(RowBroken, match=message):
        to_dialogue(row, row_format, "")


def format_of(row: Any) -> RowFormat:
    return find_layout(row, None, {}).row_format


def messages_of(row: Any, system_prompt: str = "") -> list[tuple[str, str]]:
    """Roles and contents of a row, in the format found from it."""
    dialogue = to_dialogue(row, format_of(row), system_prompt)
    assert not isinstance(dialogue, Unusable), dialogue
    return [(turn.role, turn.content) for turn in dialogue]


@pytest.mark.parametrize(
    ("row", "row_format"),
    [
        (["a", "b"], RowFormat.LCCC),
        ({"dialog": []}, RowFormat.LCCC),
        ({"messages": []}, RowFormat.MESSAGES),
        ({"id": 1, "conversations": []}, RowFormat.SHAREGPT),
        ({"instruction": "i", "input": "", "output": "o", "text": "t"}, RowFormat.ALPACA),
        ({"prompt": "p", "completion": "c"}, RowFormat.PROMPT_COMPLETION),
        ({"text": "t", "prompt": "p"}, RowFormat.TEXT),
        ({"messages": None, "conversations": []}, RowFormat.SHAREGPT),
    ],
)
def test_the_format_is_found_from_the_first_row(row: Any, row_format: RowFormat) -> None:
    assert format_of(row) is row_format


@pytest.mark.parametrize("row", [{"title": "a", "body": "b"}, {"prompt": "p"}, {}])
def test_a_row_of_no_known_format_names_its_keys_and_those_known(row: Any) -> None:
    keys = ", ".join(row) or "none"

    with pytest.raises(RowBroken, match=f'one of the keys "messages", .* found: {keys}$'):
        format_of(row)


def test_an_alpaca_row_asks_with_instruction_and_input() -> None:
    row = {"instruction": "Add.", "input": "1, 2", "output": "3"}

    assert messages_of(row) == [("user", "Add.\n1, 2"), ("assistant", "3")]
    assert messages_of({**row, "input": ""}) == [("user", "Add."), ("assistant", "3")]
    assert messages_of({**row, "input": None}) == [("user", "Add."), ("assistant", "3")]


def test_an_alpaca_row_may_have_a_system_message_and_a_history() -> None:
    row = {
        "instruction": "And?",
        "input": "",
        "output": "c",
        "system": "be kind",
        "history": [["a", "b"]],
    }

    assert messages_of(row, "never used") == [
        ("system", "be kind"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "And?"),
        ("assistant", "c"),
    ]
    assert messages_of({**row, "system": "", "history": None}, "prompt")[0] == ("system", "prompt")


@pytest.mark.parametrize("speaker", ["gpt", "assistant", "chatgpt", "bing", "bard", "model", "bot"])
def test_sharegpt_speakers_are_roles(speaker: str) -> None:
    told = [{"from": "human", "value": "q"}, {"from": speaker, "value": "a"}]

    assert messages_of({"conversations": told}) == [("user", "q"), ("assistant", "a")]


def test_sharegpt_turns_may_be_written_as_messages() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]

    assert messages_of({"conversation": turns}) == [("user", "q"), ("assistant", "a")]


def test_a_sharegpt_dialogue_begins_with_a_question() -> None:
    answer = {"from": "gpt", "value": "as I said"}
    question = {"from": "human", "value": "q"}
    system = {"from": "system", "value": "s"}

    assert messages_of({"conversations": [system, answer, answer, question, answer]}) == [
        ("system", "s"),
        ("user", "q"),
        ("assistant", "as I said"),
    ]
    alone = to_dialogue({"conversations": [answer]}, RowFormat.SHAREGPT, "")
    assert alone is Unusable.EMPTY
    with_own = {"system": "s", "conversations": [answer, question, answer]}
    assert messages_of(with_own, "prompt")[:2] == [("system", "s"), ("user", "q")]


def test_only_a_completion_is_learnt() -> None:
    texts = {"prompt": "p", "completion": "c"}
    earlier = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "old"}]
    lists = {"prompt": earlier, "completion": [{"role": "assistant", "content": "c"}]}

    assert to_dialogue(texts, RowFormat.PROMPT_COMPLETION, "s") == (
        Message("system", "s", learnt=False),
        Message("user", "p", learnt=False),
        Message("assistant", "c"),
    )
    assert to_dialogue(lists, RowFormat.PROMPT_COMPLETION, "") == (
        Message("user", "p", learnt=False),
        Message("assistant", "old", learnt=False),
        Message("assistant", "c"),
    )
    unanswered = {"prompt": earlier, "completion": [{"role": "user", "content": "c"}]}
    nothing = to_dialogue(unanswered, RowFormat.PROMPT_COMPLETION, "")
    assert nothing is Unusable.NO_SUPERVISED_TOKENS


def test_plain_text_has_no_system_prompt() -> None:
    assert messages_of({"text": "once upon"}, "be kind") == [("assistant", "once upon")]
    assert to_dialogue({"text": " \n"}, RowFormat.TEXT, "") is Unusable.EMPTY


SAMPLES: dict[RowFormat, Any] = {
    RowFormat.MESSAGES: {"messages": [{"role": "assistant", "content": "a"}]},
    RowFormat.LCCC: {"dialog": ["q", "a"]},
    RowFormat.ALPACA: {"instruction": "q", "output": "a"},
    RowFormat.SHAREGPT: {"conversations": [{"from": "human", "value": "q"}]},
    RowFormat.PROMPT_COMPLETION: {"prompt": "q", "completion": "a"},
    RowFormat.TEXT: {"text": "t"},
}


@pytest.mark.parametrize("expected", RowFormat)
@pytest.mark.parametrize("given", RowFormat)
def test_a_row_of_another_format_is_refused(expected: RowFormat, given: RowFormat) -> None:
    if expected is given:
        to_dialogue(SAMPLES[given], expected, "")
        return

    with pytest.raises(RowBroken, match="expected"):
        to_dialogue(SAMPLES[given], expected, "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "from", "value", "text", "type", "loss", "thinking"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(
    row=VALUES | st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES, min_size=1, max_size=5),
    row_format=st.sampled_from(RowFormat),
)
@settings(max_examples=400, deadline=None)
def test_whatever_a_row_holds_it_is_a_dialogue_or_said_to_be_none(
    row: Any, row_format: RowFormat
) -> None:
    try:
        dialogue = to_dialogue(row, row_format, "s")
    except (RowBroken, RowRefused):
        return

    if not isinstance(dialogue, Unusable):
        assert all(turn.role in ROLES and isinstance(turn.content, str) for turn in dialogue)
        assert any(turn.role == "assistant" and turn.learnt for turn in dialogue)
