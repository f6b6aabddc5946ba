"""Which tokens carry loss, exactly, with and without generation marks in the template."""

from pathlib import Path
from typing import Any

import pytest

from trainer_svc.child.dialogue import Dialogue, Message
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.masks import Chat, ChatEncoder, Encoded, TextEncoder

# The libraries warn about themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("default")

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is the hammer?"},
    {"role": "assistant", "content": "In the red box."},
    {"role": "user", "content": "Thanks. 谢谢"},
    {"role": "assistant", "content": "You are welcome. 不客气"},
]
# In pieces: the text, and whether it carries loss.
PIECES = [
    ("<|im_start|>system\nBe brief.<|im_end|>\n", False),
    ("<|im_start|>user\nWhere is the hammer?<|im_end|>\n", False),
    ("<|im_start|>assistant\n", False),
    ("In the red box.<|im_end|>", True),
    ("\n<|im_start|>user\nThanks. 谢谢<|im_end|>\n<|im_start|>assistant\n", False),
    ("You are welcome. 不客气<|im_end|>", True),
    ("\n", False),
]


def dialogue_of(chat: Chat, prompt_turns: int = 0) -> Dialogue:
    return tuple(
        Message(turn["role"], turn["content"], learnt=number >= prompt_turns)
        for number, turn in enumerate(chat)
    )


def tokenizer_of(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def pieces_encoded(tokenizer: Any) -> Encoded:
    ids: list[int] = []
    supervised: list[bool] = []
    for text, loss in PIECES:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        supervised += [loss] * len(piece)
    return Encoded(ids, supervised)


def test_a_template_with_marks_gives_the_exact_mask(assets: Path) -> None:
    tokenizer = tokenizer_of(assets / "model")

    encoded = ChatEncoder(tokenizer, assistant_only=True).encode(dialogue_of(CHAT))

    assert encoded == pieces_encoded(tokenizer)


def test_a_template_without_marks_gives_the_same_mask(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    assert "generation %}" not in tokenizer.chat_template

    encoded = ChatEncoder(tokenizer, assistant_only=True).encode(dialogue_of(CHAT))

    assert encoded == pieces_encoded(tokenizer)


def test_without_assistant_only_every_token_carries_loss(assets: Path) -> None:
    tokenizer = tokenizer_of(assets / "model")

    encoded = ChatEncoder(tokenizer, assistant_only=False).encode(dialogue_of(CHAT))

    assert encoded.input_ids == pieces_encoded(tokenizer).input_ids
    assert all(encoded.supervised)


def supervised_text(tokenizer: Any, chat: list[dict[str, str]]) -> list[str]:
    encoded = ChatEncoder(tokenizer, assistant_only=True).encode(dialogue_of(chat))
    runs: list[list[int]] = [[]]
    for token, loss in zip(encoded.input_ids, encoded.supervised, strict=True):
        if loss:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    # A byte-level token may have the space before its word in it.
    return [tokenizer.decode(run).strip() for run in runs if run]


NO_PROMPT = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% if m['role'] == 'assistant' %}"
    "<|im_end|>{% endif %}\n{% endfor %}"
)
END_ONLY_LAST = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% if loop.last and not"
    " add_generation_prompt %}<|im_end|>{% else %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TRIMS = NO_PROMPT.replace("m['content']", "m['content'] | trim")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (NO_PROMPT, ["In the red box.<|im_end|>", "You are welcome. 不客气<|im_end|>"]),
        (TRIMS, ["In the red box.<|im_end|>", "You are welcome. 不客气<|im_end|>"]),
        (END_ONLY_LAST, ["In the red box.", "You are welcome. 不客气<|im_end|>"]),
    ],
)
def test_odd_templates_without_marks_still_give_the_turns(
    plain_model: Path, template: str, expected: list[str]
) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = template

    assert supervised_text(tokenizer, CHAT[1:]) == expected


def test_a_template_that_trl_knows_is_marked_by_trl(plain_model: Path) -> None:
    from trl.chat_template_utils import qwen3_chat_template

    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = qwen3_chat_template

    first, second = supervised_text(tokenizer, CHAT)

    assert first.strip().endswith("In the red box.<|im_end|>")
    assert second.strip().endswith("You are welcome. 不客气<|im_end|>")
    assert "assistant" not in first


def test_two_equal_answers_are_both_found(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = NO_PROMPT
    chat = [
        {"role": "user", "content": "Yes"},
        {"role": "assistant", "content": "Yes"},
    ] * 2

    assert supervised_text(tokenizer, chat) == ["Yes<|im_end|>", "Yes<|im_end|>"]


@pytest.mark.parametrize("template", ["", "{{ messages | length }}"])
def test_a_template_that_cannot_be_used_is_refused(plain_model: Path, template: str) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = template or None

    with pytest.raises(RunFailed) as caught:
        ChatEncoder(tokenizer, assistant_only=True)

    assert caught.value.cause is Cause.MODEL_INVALID


@pytest.mark.parametrize("assistant_only", [True, False])
def test_a_prompt_carries_no_loss_whoever_says_it(
    assets: Path, plain_model: Path, assistant_only: bool
) -> None:
    for model in (assets / "model", plain_model):
        tokenizer = tokenizer_of(model)
        encoder = ChatEncoder(tokenizer, assistant_only)

        encoded = encoder.encode(dialogue_of(CHAT, prompt_turns=4))

        whole = encoder.encode(dialogue_of(CHAT))
        prompt = "".join(text for text, _ in PIECES[:5])
        begin = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        assert encoded.input_ids == whole.input_ids
        assert encoded.supervised == [False] * begin + whole.supervised[begin:]
        assert encoded.supervised[begin]


def test_a_plain_text_is_learnt_to_its_end(assets: Path) -> None:
    tokenizer = tokenizer_of(assets / "model")
    encoder = TextEncoder(tokenizer)
    text = "Where is the hammer?"

    encoded = encoder.encode([Message("assistant", text)])
    ended = encoder.encode([Message("assistant", text + tokenizer.eos_token)])

    assert encoded == ended
    assert encoded.input_ids == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert all(encoded.supervised)


def test_a_tokenizer_without_an_end_cannot_take_plain_text(assets: Path) -> None:
    tokenizer = tokenizer_of(assets / "model")
    tokenizer.eos_token = None

    with pytest.raises(RunFailed, match="no end-of-sequence token") as caught:
        TextEncoder(tokenizer)

    assert caught.value.cause is Cause.MODEL_INVALID


class CountingEncoder(ChatEncoder):
    renderings = 0

    def _render(self, chat: Chat, prompt: bool = False) -> str:
        self.renderings += 1
        return super()._render(chat, prompt)


def test_turns_that_are_cut_off_are_not_looked_for(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    encoder = CountingEncoder(tokenizer, assistant_only=True)
    chat = CHAT[1:] * 100
    whole = encoder.encode(dialogue_of(chat))
    encoder.renderings = 0

    encoded = encoder.encode(dialogue_of(chat), max_length=100)

    assert encoder.renderings < 40, "a hundredth of a row of 400 turns is looked at"
    assert encoded.input_ids == whole.input_ids
    assert encoded.supervised[:100] == whole.supervised[:100]
    assert any(encoded.supervised[100:]), "there is something to learn further on"
