"""What stands in one message: roles, weights, thoughts, names, parts."""

from typing import Any

import pytest

from trainer_svc.child.dialogue import Dialogue, Message, Unusable
from trainer_svc.child.rows.broken import RowBroken
from trainer_svc.child.rows.formats import RowFormat
from trainer_svc.child.rows.layout import find_layout
from trainer_svc.child.rows.notes import Notes
from trainer_svc.child.rows.reading import to_dialogue
from trainer_svc.child.rows.refusals import MEDIA, TOOLS, RowRefused

USER = {"role": "user", "content": "q"}


def read(*messages: Any, notes: Notes | None = None, key: str = "messages") -> Dialogue:
    row = {key: list(messages)}
    dialogue = to_dialogue(row, find_layout(row, None, {}).row_format, "", notes)
    assert not isinstance(dialogue, Unusable), dialogue
    return dialogue


def answer(content: Any = "a", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize("key", ["weight", "loss", "loss_weight", "loss_scale", "train"])
@pytest.mark.parametrize(
    ("value", "learnt"), [(0, False), (False, False), (0.0, False), (1, True), (True, True)]
)
def test_a_weight_says_whether_a_turn_is_learnt(key: str, value: Any, learnt: bool) -> None:
    notes = Notes()

    dialogue = read(USER, answer("one", **{key: value}), USER, answer("two"), notes=notes)

    assert [turn.learnt for turn in dialogue] == [True, learnt, True, True]
    assert notes.ignored == set()


@pytest.mark.parametrize("value", [0.5, 2, -1, float("nan"), 0.0001])
def test_a_fractional_weight_is_refused_by_name(value: float) -> None:
    with pytest.raises(RowBroken, match=r'message 2: "loss_weight" is .*fractional weights'):
        read(USER, answer(loss_weight=value))


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (answer(weight="1"), '"weight" with 0 or 1, found a string'),
        (answer(weight=1, loss=False), '"weight", "loss" say different things'),
        (answer(train_detail=[{"begin_offset": 0}]), "weights for parts of a message"),
        (answer(reasoning_content=["t"]), '"reasoning_content" with a string, found a list'),
        (answer(thinking="a", reasoning="b"), "several thoughts"),
        (answer(name=3), '"name" with a string'),
        (answer(images=["a.png"]), "pictures beside a message"),
        (answer(None), '"content" with a string or a list of parts, found nothing'),
        (answer([3]), "part 1: expected an object, found a number"),
        (answer([{"type": "hologram"}]), "part 1: unknown type 'hologram'"),
        (answer([{"type": "text"}]), 'part 1: expected "text" with a string, found nothing'),
        ({"role": "user", "content": [{"type": "thinking", "thinking": "t"}]}, "a thought that"),
        ({"role": "narrator", "content": "x"}, "unknown role 'narrator'; known: system, developer"),
    ],
)
def test_what_cannot_be_honoured_is_refused(turn: Any, words: str) -> None:
    with pytest.raises(RowBroken, match=f"message 2: .*{words}|message 2, {words}"):
        read(USER, turn)


def test_a_weight_on_another_turn_is_noted() -> None:
    harmless, asking = Notes(), Notes()

    read({**USER, "weight": 0}, answer(), notes=harmless)
    read({**USER, "train": True}, answer(), notes=asking)

    assert harmless.asks_to_learn == ""
    assert asking.asks_to_learn == 'message 1: "train" says to learn a user turn'


def test_a_row_whose_answers_have_no_weight_has_no_supervised_tokens() -> None:
    row = {"messages": [USER, answer(weight=0)]}

    assert to_dialogue(row, RowFormat.MESSAGES, "") is Unusable.NO_SUPERVISED_TOKENS


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_a_thought_is_read_under_each_of_its_names(key: str) -> None:
    dialogue = read(USER, answer(**{key: "hm"}), USER, answer(**{key: " "}))

    assert [turn.thought for turn in dialogue] == ["", "hm", "", ""]


def test_a_thought_of_somebody_else_is_ignored_and_noted() -> None:
    notes = Notes()

    read({**USER, "reasoning": "hm"}, answer(), notes=notes)

    assert notes.ignored == {"messages[].reasoning"}


@pytest.mark.parametrize(
    ("role", "known"),
    [("developer", "system"), ("User", "user"), ("human", "user"), ("GPT", "assistant")],
)
def test_roles_have_other_names(role: str, known: str) -> None:
    assert read({"role": role, "content": "x"}, USER, answer())[0].role == known


def test_names_go_to_the_template() -> None:
    assert read({**USER, "name": "Ann"}, answer())[0] == Message("user", "q", name="Ann")


def test_parts_are_put_together_with_a_mark_for_each_picture() -> None:
    notes = Notes()
    parts = [
        {"type": "text", "text": "Is "},
        {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}},
        {"type": "text", "value": " like "},
        {"type": "image", "path": "b.png"},
        "?",
        {"type": "image", "image": None},
        {"type": "input_image", "image_url": "c.png", "detail": "low"},
    ]

    dialogue = read({"role": "user", "content": parts}, answer(), notes=notes)

    assert dialogue[0].content == "Is <image> like <image>?<image><image>"
    assert notes.pictures == ["a.png", "b.png", "c.png"]
    assert notes.ignored == {"messages[].content[].detail"}


def test_a_thought_may_be_a_part() -> None:
    said = [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "a"}]

    assert read(USER, answer(said))[1] == Message("assistant", "a", thought="hm")


def test_a_parts_nulls_are_what_a_table_has_of_other_parts() -> None:
    part = {"type": "text", "text": "a", "image_url": None, "value": None}

    assert read(USER, answer([part]))[1].content == "a"


@pytest.mark.parametrize("key", ["messages", "conversations", "conversation"])
def test_unknown_keys_of_messages_are_noted_and_empty_ones_are_not(key: str) -> None:
    notes = Notes()

    read({**USER, "id": 7, "time": None, "tags": []}, answer(tool_calls=[]), notes=notes, key=key)

    assert notes.ignored == {f"{key}[].id"}


@pytest.mark.parametrize(
    "turn",
    [
        answer("", tool_calls=[{"function": {}}]),
        answer(None, tool_calls=[{"function": {}}]),
        answer("", function_call={"name": "f"}),
        answer([{"type": "tool_use", "name": "f"}]),
        {"role": "tool", "content": "3"},
        {"role": "function", "content": "3"},
        {"role": "ipython", "content": "3"},
        {"from": "observation", "value": "3"},
        {"from": "function_call", "value": "{}"},
    ],
)
def test_turns_of_tools_are_refused_by_name(turn: Any) -> None:
    with pytest.raises(RowRefused, match="training with tools is not supported") as caught:
        read(USER, turn)

    assert caught.value.refusal is TOOLS


@pytest.mark.parametrize("kind", ["video", "audio", "video_url", "input_audio"])
def test_videos_and_sounds_are_refused_by_name(kind: str) -> None:
    with pytest.raises(RowRefused, match="videos and sounds are not supported") as caught:
        read({"role": "user", "content": [{"type": kind, kind: "a.mp4"}]}, answer())

    assert caught.value.refusal is MEDIA
