"""What is learnt of a dialogue, for the chat templates of published models.

Two checks that share nothing with the code: the stretches that carry loss, decoded, are what
texts.py has by hand; and a change of one turn's words changes what is learnt of that turn alone.
"""

import os
from typing import Any

import pytest

from tests.real_tokenizers.loading import installed
from tests.unit.child.families.text_models import tokenizer_of
from tests.unit.child.families.texts import (
    BY_NAME,
    FAMILIES,
    FIRST,
    LAST,
    NO_SYSTEM,
    NO_THOUGHT,
    THOUGHT_FIRST,
    THOUGHT_LAST,
    TextFamily,
)
from trainer_svc.child.dialogue import Dialogue, Message, as_chat
from trainer_svc.child.masks import ChatEncoder, Encoded
from trainer_svc.child.turns.refusals import NoSystemRole, ThoughtLost

# The libraries warn about themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("default")

LEFT_OUT = (
    "TUNEWRIGHT_SKIP_NODE=1: tokenizers that come from npm are not tested"
    if os.environ.get("TUNEWRIGHT_SKIP_NODE") == "1"
    else ""
)
ASKED = (Message("user", "Hi there"), Message("user", "Thanks"))
DIALOGUE: Dialogue = (ASKED[0], Message("assistant", FIRST), ASKED[1], Message("assistant", LAST))
THINKS_LAST = Message("assistant", LAST, thought=THOUGHT_LAST)
THINKS_FIRST = Message("assistant", FIRST, thought=THOUGHT_FIRST)
ROWS: dict[str, Dialogue] = {
    "single": (ASKED[0], Message("assistant", LAST)),
    "dialogue": DIALOGUE,
    "system": (Message("system", "Be brief."), *DIALOGUE),
    "thought": (*DIALOGUE[:3], THINKS_LAST),
    "thoughts": (ASKED[0], THINKS_FIRST, ASKED[1], THINKS_LAST),
}
REFUSALS = {NO_SYSTEM: NoSystemRole, NO_THOUGHT: ThoughtLost}


def require_packages(family: TextFamily) -> None:
    """Skips, or fails, a test whose tokenizer comes from a package that is not there."""
    if isinstance(family.tokenizer, str):
        if LEFT_OUT:
            pytest.skip(LEFT_OUT)
        assert installed(), "run `make tokenizers`; TUNEWRIGHT_SKIP_NODE=1 leaves these tests out"


@pytest.fixture(scope="module", params=[family.name for family in FAMILIES])
def family(request: pytest.FixtureRequest) -> TextFamily:
    found = BY_NAME[request.param]
    require_packages(found)
    return found


@pytest.fixture(scope="module")
def tokenizer(family: TextFamily) -> Any:
    return tokenizer_of(family)


@pytest.fixture(scope="module")
def encoder(tokenizer: Any) -> ChatEncoder:
    return ChatEncoder(tokenizer, assistant_only=True)


def stretches(tokenizer: Any, encoded: Encoded) -> list[str]:
    """What carries loss, decoded stretch by stretch."""
    runs: list[list[int]] = [[]]
    for token, loss in zip(encoded.input_ids, encoded.supervised, strict=True):
        if loss:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


@pytest.mark.parametrize("kind", list(ROWS))
def test_what_is_learnt_is_what_the_model_writes(
    family: TextFamily, tokenizer: Any, encoder: ChatEncoder, kind: str
) -> None:
    expected = family.of(kind)
    if isinstance(expected, str):
        with pytest.raises(REFUSALS[expected]):
            encoder.encode(ROWS[kind])
        return

    encoded = encoder.encode(ROWS[kind])

    # A word of sentencepiece has the space before it in its token.
    found = [text.lstrip(" ") for text in stretches(tokenizer, encoded)]
    assert found == list(expected)
    assert encoded.thoughts_dropped == (family.dropped if kind == "thoughts" else 0)


def test_without_a_turn_the_rest_is_learnt_as_before(
    family: TextFamily, tokenizer: Any, encoder: ChatEncoder
) -> None:
    whole = encoder.encode(DIALOGUE)
    learnt = stretches(tokenizer, whole)
    for at, kept in ((1, learnt[1]), (3, learnt[0])):
        one = [
            Message(turn.role, turn.content, learnt=number != at)
            for number, turn in enumerate(DIALOGUE)
        ]

        encoded = encoder.encode(one)

        assert encoded.input_ids == whole.input_ids
        assert stretches(tokenizer, encoded) == [kept]


def test_with_all_turns_learnt_an_unlearnt_one_carries_no_loss(
    family: TextFamily, tokenizer: Any
) -> None:
    encoder = ChatEncoder(tokenizer, assistant_only=False)
    for at, turn in enumerate(DIALOGUE):
        one = [
            Message(other.role, other.content, learnt=number != at)
            for number, other in enumerate(DIALOGUE)
        ]

        learnt = "".join(stretches(tokenizer, encoder.encode(one)))

        assert turn.content not in learnt
        assert [words in learnt for words in (FIRST, LAST, "Hi there", "Thanks")].count(False) == 1


WORDS = ("  Yes.\n\n- one\n- two\n", "谢谢 😀", "a <|b|> c", "1", "Thanks", "[INST] {{ x }} </s")


def test_other_words_change_what_is_learnt_of_their_turn_alone(
    family: TextFamily, tokenizer: Any, encoder: ChatEncoder
) -> None:
    before = stretches(tokenizer, encoder.encode(DIALOGUE))
    for at, turn in enumerate(DIALOGUE):
        for words in WORDS:
            changed = [*DIALOGUE[:at], Message(turn.role, words), *DIALOGUE[at + 1 :]]

            after = stretches(tokenizer, encoder.encode(changed))

            assert len(after) == 2
            for answer in (0, 1):
                if at == 2 * answer + 1:
                    assert words.strip() in after[answer]
                else:
                    assert after[answer].strip() == before[answer].strip()


def test_no_way_of_finding_turns_is_needed_but_the_first(
    family: TextFamily, encoder: ChatEncoder
) -> None:
    """The frame of each shape is known, so that encoding stays quick."""
    skeletons = encoder._turns._skeletons

    encoder.encode(DIALOGUE)

    assert skeletons
    assert None not in skeletons.values()


def test_marks_of_trl_are_taken_as_trl_takes_them(
    family: TextFamily, tokenizer: Any, encoder: ChatEncoder
) -> None:
    """What a plain script of TRL's with assistant_only_loss would learn."""
    source = encoder._turns.template.source
    if not encoder._turns._marked:
        assert "generation %}" not in source
        return
    for kind in ("single", "dialogue", "system"):
        if isinstance(family.of(kind), str):
            continue

        batch = tokenizer.apply_chat_template(
            as_chat(ROWS[kind]),
            chat_template=source,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )

        encoded = encoder.encode(ROWS[kind])
        assert encoded.input_ids == batch["input_ids"]
        assert encoded.supervised == [bool(mark) for mark in batch["assistant_masks"]]
