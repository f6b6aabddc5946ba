"""Where the answers of one rendered dialogue are, found by rendering it turn by turn.

Owns the way for a template whose frame depends on the words, so that no skeleton fits. An
answer begins where the prompt for it ends, as far as the whole dialogue agrees with it. Refuses
a dialogue in which an answer is not there (TurnsNotFound).
"""

import re

from trainer_svc.child.turns.refusals import TurnsNotFound
from trainer_svc.child.turns.skeleton import common
from trainer_svc.child.turns.template import Chat, Span, Template

TURNS_MAX = 64
"""Each turn takes a rendering of all before it: the time grows with the square of the turns."""


def answers(
    template: Template, chat: Chat, text: str, specials: re.Pattern[str]
) -> dict[int, Span]:
    """The characters of each answer in `text`, the whole dialogue. Raises TurnsNotFound,
    TemplateError."""
    if len(chat) > TURNS_MAX:
        raise TurnsNotFound(
            f"the chat template's frame depends on the words, and a dialogue of {len(chat)} turns"
            f" is too long to look for each (at most {TURNS_MAX})"
        )
    found: dict[int, Span] = {}
    after = 0
    for index, turn in enumerate(chat):
        if turn["role"] == "assistant":
            found[index] = _answer(template, chat, index, text, specials)
            if found[index][0] < after:
                raise TurnsNotFound(f"turn {index + 1} stands before the one before it")
            after = found[index][1]
    return found


def _answer(
    template: Template, chat: Chat, index: int, text: str, specials: re.Pattern[str]
) -> Span:
    content = chat[index]["content"].strip()
    # A template may treat the last turn in its own way: compare, and go as far as it agrees.
    end = common(template.render(chat[: index + 1]), text)
    before = common(template.render(chat[:index]), text) if index else 0
    start = common(template.render(chat[:index], prompt=True), text) if index else 0
    if start <= before:  # no generation prompt in this template
        start = text.find(content, before, end)
    if start < 0 or content not in text[start:end]:
        raise TurnsNotFound(f"turn {index + 1} is not where the chat template should put it")
    words_end = text.rfind(content, start, end) + len(content)
    special = specials.search(text, words_end, end)
    return start, special.end() if special else end
