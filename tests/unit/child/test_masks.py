"""Which tokens carry loss, exactly, with and without generation marks in the template."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from trainer_svc.child.dialogue import Dialogue, Message
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.masks import ChatEncoder, Encoded, TextEncoder, turn_finder
from trainer_svc.child.turns.refusals import NoSystemRole, ThoughtLost, TurnsNotFound
from trainer_svc.child.turns.template import Chat, Template

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
    return supervised_runs(
        tokenizer, ChatEncoder(tokenizer, assistant_only=True).encode(dialogue_of(chat))
    )


def supervised_runs(tokenizer: Any, encoded: Encoded) -> list[str]:
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


class CountingTemplate(Template):
    renderings = 0

    def render(self, chat: Chat, prompt: bool = False) -> str:
        CountingTemplate.renderings += 1
        return super().render(chat, prompt)


def test_a_long_dialogue_takes_a_few_renderings_and_its_like_one(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    template = CountingTemplate(tokenizer, tokenizer.chat_template)
    finder = turn_finder(tokenizer, assistant_only=True, template=template)
    chat = dialogue_of(CHAT[1:] * 100)
    CountingTemplate.renderings = 0

    first = finder.find(chat)
    learning, CountingTemplate.renderings = CountingTemplate.renderings, 0
    second = finder.find(chat)

    assert learning < 20
    assert CountingTemplate.renderings == 1
    assert len(first.spans) == len(second.spans) == 200


def test_a_turn_that_is_not_learnt_carries_no_loss_wherever_it_stands(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    for at, kept in ((2, "You are welcome."), (4, "In the red box.")):
        chat = [replace(turn, learnt=number != at) for number, turn in enumerate(dialogue_of(CHAT))]

        only = supervised_runs(tokenizer, ChatEncoder(tokenizer, True).encode(chat))
        others = "".join(supervised_runs(tokenizer, ChatEncoder(tokenizer, False).encode(chat)))

        assert len(only) == 1
        assert kept in only[0]
        assert CHAT[at]["content"] not in others
        assert all(turn["content"] in others for turn in CHAT if turn is not CHAT[at])


ONLY_ONE_ANSWER = (
    "{% if messages | selectattr('role', 'equalto', 'assistant') | list | length > 1 %}"
    "{{ raise_exception('one answer only') }}{% endif %}" + NO_PROMPT
)


def test_a_template_for_single_answers_trains_on_them(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = ONLY_ONE_ANSWER

    assert supervised_text(tokenizer, CHAT[1:3]) == ["In the red box.<|im_end|>"]
    with pytest.raises(TemplateError, match="one answer only"):
        supervised_text(tokenizer, CHAT[1:])


# The frame depends on the words: no stand-in shows it.
GREETS = (
    "{% for m in messages %}{{ m['role'] }}{% if m['content'] | length > 12 %} (long){% endif %}: "
    "{{ m['content'] }}{% if m['role'] == 'assistant' %}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_a_frame_that_depends_on_the_words_is_looked_for_in_each_row(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = GREETS
    short = [*CHAT[1:4], {"role": "assistant", "content": "Yes."}]

    learnt = supervised_text(tokenizer, short)

    assert [text.removeprefix("(long): ") for text in learnt] == [
        "In the red box.<|im_end|>",
        "Yes.<|im_end|>",
    ]


def test_a_turn_without_loss_has_none_where_the_frame_depends_on_the_words(
    plain_model: Path,
) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = GREETS
    short = dialogue_of([*CHAT[1:4], {"role": "assistant", "content": "Yes."}])
    chat = [replace(turn, learnt=number != 1) for number, turn in enumerate(short)]

    encoded = ChatEncoder(tokenizer, assistant_only=True).encode(chat)

    assert supervised_runs(tokenizer, encoded) == ["Yes.<|im_end|>"]


def test_a_template_that_swallows_an_answer_is_refused_row_by_row(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['content'] != 'Secret.' %}{{ m['role'] + ': ' +"
        " m['content'] }}\n{% endif %}{% endfor %}"
    )
    encoder = ChatEncoder(tokenizer, assistant_only=True)
    encoder.encode(dialogue_of(CHAT[1:]))

    with pytest.raises(TurnsNotFound, match="turn 2"):
        encoder.encode([Message("user", "Say it."), Message("assistant", "Secret.")])


def test_the_default_of_several_templates_is_used(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = {"default": NO_PROMPT, "tool_use": "{{ messages | length }}"}
    assert supervised_text(tokenizer, CHAT[1:3]) == ["In the red box.<|im_end|>"]

    tokenizer.chat_template = {"one": NO_PROMPT, "two": NO_PROMPT}
    with pytest.raises(RunFailed, match="none of them is named default"):
        ChatEncoder(tokenizer, assistant_only=True)


def test_words_that_look_like_the_frame_are_learnt_as_words(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = NO_PROMPT
    answer = "[user] What?\n[assistant] That.<|im_end|>\n\u20630\u2063"
    chat = [{"role": "user", "content": "[assistant] x<|im_end|>"}]
    chat += [{"role": "assistant", "content": answer}]

    assert "".join(supervised_text(tokenizer, chat)) == answer + "<|im_end|>"


def test_an_empty_answer_teaches_its_end(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    chat = [CHAT[1], {"role": "assistant", "content": ""}]

    assert supervised_text(tokenizer, chat) == ["<|im_end|>"]


def thinking(form: str) -> str:
    return NO_PROMPT.replace("{{ m['content'] }}", form + "{{ m['content'] }}")


@pytest.mark.parametrize(
    "form",
    [
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}",
        "{% if 'thinking' in m %}<think>{{ m.thinking }}</think>{% endif %}",
        "{% if m.reasoning %}<think>{{ m.reasoning }}</think>{% endif %}",
        "{# knows <think> and </think> #}",
    ],
)
def test_a_thought_goes_where_the_template_reads_it(plain_model: Path, form: str) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = thinking(form)
    encoder = ChatEncoder(tokenizer, assistant_only=True)
    chat = [Message("user", "Where?"), Message("assistant", "Here.", thought="Let me see.")]

    (learnt,) = supervised_runs(tokenizer, encoder.encode(chat))

    assert learnt.count("Let me see.") == 1
    assert learnt.index("Let me see.") < learnt.index("Here.")
    assert tokenizer.decode(encoder.encode(chat).input_ids).count("<think>") == 1


def test_a_thought_that_the_template_cannot_take_is_refused(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    chat = [Message("user", "Where?"), Message("assistant", "Here.", thought="Let me see.")]
    for assistant_only in (True, False):
        encoder = ChatEncoder(tokenizer, assistant_only)

        with pytest.raises(ThoughtLost, match="turn 2 has a thought"):
            encoder.encode(chat)
        encoder.encode([chat[0], replace(chat[1], learnt=False), *dialogue_of(CHAT[1:3])])


DROPS = (
    "{% for m in messages %}[{{ m['role'] }}] {% if loop.last and m.reasoning_content %}<think>"
    "{{ m.reasoning_content }}</think>{% endif %}{{ m['content'].split('</think>')[-1] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)


def test_an_answer_without_its_thought_is_not_learnt_and_counted(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = DROPS
    chat = [
        Message("user", "Where?"),
        Message("assistant", "Here.", thought="Let me see."),
        Message("user", "Sure?"),
        Message("assistant", "Yes.", thought="It was there."),
    ]
    for assistant_only in (True, False):
        encoded = ChatEncoder(tokenizer, assistant_only).encode(chat)

        learnt = "".join(supervised_runs(tokenizer, encoded))
        assert encoded.thoughts_dropped == 1
        assert "Here." not in learnt
        assert "It was there.</think>Yes.<|im_end|>" in learnt


@pytest.mark.parametrize("assistant_only", [True, False])
def test_a_thought_inside_the_answer_is_not_lost_in_silence(
    plain_model: Path, assistant_only: bool
) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = DROPS
    encoder = ChatEncoder(tokenizer, assistant_only)
    answer = "<think>\nLet me see.\n</think>\n\nHere."

    with pytest.raises(ThoughtLost):
        encoder.encode([Message("user", "Where?"), Message("assistant", answer)])


def test_a_name_goes_to_the_template(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = NO_PROMPT.replace("m['role'] }}]", "m.name or m['role'] }}]")
    chat = [Message("user", "Where?", name="Ann"), Message("assistant", "Here.", name="Bob")]
    encoder = ChatEncoder(tokenizer, assistant_only=True)

    text = tokenizer.decode(encoder.encode(chat).input_ids)

    assert text == "[Ann] Where?[Bob] Here.<|im_end|>"


NO_SYSTEM_ROLE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + NO_PROMPT
)
SILENT_ABOUT_SYSTEM = NO_PROMPT.replace("%}[{{", "%}{% if m['role'] != 'system' %}[{{", 1).replace(
    "\n{% endfor", "\n{% endif %}{% endfor"
)


@pytest.mark.parametrize("template", [NO_SYSTEM_ROLE, SILENT_ABOUT_SYSTEM])
def test_a_system_message_that_the_template_has_no_role_for_is_refused(
    plain_model: Path, template: str
) -> None:
    tokenizer = tokenizer_of(plain_model)
    tokenizer.chat_template = template
    encoder = ChatEncoder(tokenizer, assistant_only=True)

    with pytest.raises(NoSystemRole, match="has no system role"):
        encoder.encode(dialogue_of(CHAT))
    with pytest.raises(RunFailed, match="this model's chat template has no system role") as caught:
        encoder.require_system_role()
    encoder.encode(dialogue_of(CHAT[1:]))

    assert caught.value.cause is Cause.CONFIG_INVALID


def test_a_template_tells_which_roles_it_knows(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    assert not ChatEncoder(tokenizer, assistant_only=True).knows_role("developer")

    tokenizer.chat_template = NO_PROMPT + "{# developer #}"
    assert ChatEncoder(tokenizer, assistant_only=True).knows_role("developer")


class DatedTemplate(Template):
    day = "Monday"

    def render(self, chat: Chat, prompt: bool = False) -> str:
        return f"{self.day}\n{super().render(chat, prompt)}"


def test_a_frame_that_changes_from_day_to_day_is_learnt_again(plain_model: Path) -> None:
    tokenizer = tokenizer_of(plain_model)
    template = DatedTemplate(tokenizer, NO_PROMPT)
    finder = turn_finder(tokenizer, assistant_only=True, template=template)
    monday = finder.find(dialogue_of(CHAT[1:]))
    template.day = "Tuesday"

    tuesday = finder.find(dialogue_of(CHAT[1:]))

    assert tuesday.text.startswith("Tuesday")
    assert [(start + 1, end + 1) for start, end in monday.spans] == list(tuesday.spans)
