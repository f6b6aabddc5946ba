"""Which characters of a rendered dialogue carry loss.

Owns the order of the ways to find out, each of which is held against the row itself: the
skeleton of the row's shape, with the template's generation marks where it has some; the marks of
this row; the row rendered turn by turn. A row that none fits is refused (TurnsNotFound), and so
is one with a system message that the template has no role for (NoSystemRole) or a thought to be
learnt that it does not write (ThoughtLost).

A thought that a template leaves out of an earlier turn, as it does when the model is used, takes
its answer with it: learnt alone, the answer would teach the model not to think. Such answers
carry no loss, and are counted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from jinja2 import TemplateError

from trainer_svc.child.dialogue import Message, as_chat
from trainer_svc.child.turns import by_turn
from trainer_svc.child.turns.refusals import NoSystemRole, ThoughtLost, TurnsNotFound
from trainer_svc.child.turns.roles import with_system
from trainer_svc.child.turns.shape import Shape, shape_of
from trainer_svc.child.turns.skeleton import Fitted, Skeleton, learn
from trainer_svc.child.turns.template import Chat, Span, Template
from trainer_svc.child.turns.thoughts import AS_GIVEN, GIVEN, ThoughtForm, form_of

SHAPES_MAX = 1_024
"""Skeletons that are kept; as many again are learnt when there are more shapes."""


@dataclass(frozen=True)
class Rendered:
    """A dialogue as the template writes it, the characters of it that carry loss, and how many
    answers carry none because the template left out what was thought before them."""

    text: str
    spans: tuple[Span, ...]
    thoughts_dropped: int = 0


class TurnFinder:
    """Finds turns in what one template writes. Can be sent to other processes."""

    def __init__(
        self, template: Template, added_tokens: Iterable[str], marked: bool, answers_only: bool
    ) -> None:
        """`added_tokens` are the tokenizer's; `marked`: the template has generation marks;
        `answers_only`: what is not an answer carries no loss."""
        self.template = template
        self._specials = _pattern(added_tokens)
        self._marked = marked
        self._answers_only = answers_only
        self._skeletons: dict[Shape, Skeleton | None] = {}

    @cached_property
    def thought_form(self) -> ThoughtForm | None:
        """How the template takes a thought; None if it takes none."""
        return form_of(self.template)

    @cached_property
    def with_system(self) -> Template | None:
        """The template in the form that writes system messages; None if it has no system role."""
        return with_system(self.template)

    def find(self, dialogue: Sequence[Message]) -> Rendered:
        """Raises TemplateError, RowRefused."""
        chat = as_chat(dialogue)
        template = self._template_for(dialogue)
        put = self._with_thoughts(dialogue, chat)
        text = template.render(put)
        if self._all_carries_loss(dialogue):
            return Rendered(text, ((0, len(text)),))
        field = (self.thought_form or AS_GIVEN).field if _thinks(chat) else ""
        shape, words = shape_of(put, field, self.template.breaks)
        fitted = self._fit(template, shape, words, text)
        if fitted is not None:
            return self._by_skeleton(dialogue, text, fitted)
        return self._without_skeleton(template, dialogue, put, text)

    def _template_for(self, dialogue: Sequence[Message]) -> Template:
        if all(turn.role != "system" for turn in dialogue):
            return self.template
        if self.with_system is None:
            raise NoSystemRole(
                "the row has a system message, and the model's chat template has no system role"
            )
        return self.with_system

    def _all_carries_loss(self, dialogue: Sequence[Message]) -> bool:
        """Whether there is nothing to look for in the string."""
        return not self._answers_only and all(
            turn.learnt and not turn.thought and "</think>" not in turn.content for turn in dialogue
        )

    def _with_thoughts(self, dialogue: Sequence[Message], chat: Chat) -> Chat:
        if not _thinks(chat):
            return chat
        if self.thought_form is not None:
            return self.thought_form.put(chat)
        learnt = next(
            (at for at, turn in enumerate(dialogue) if turn.thought and turn.learnt), None
        )
        if learnt is not None:
            raise ThoughtLost(
                f"turn {learnt + 1} has a thought to be learnt, and the model's chat template"
                " does not render thoughts"
            )
        return [{key: turn[key] for key in turn if key != GIVEN} for turn in chat]

    def _fit(
        self, template: Template, shape: Shape, words: Sequence[str], text: str
    ) -> Fitted | None:
        known = self._skeletons.get(shape) is not None
        fitted = self._fit_once(template, shape, words, text)
        if fitted is None and known:
            # What a template writes may change from day to day.
            del self._skeletons[shape]
            fitted = self._fit_once(template, shape, words, text)
        return fitted

    def _fit_once(
        self, template: Template, shape: Shape, words: Sequence[str], text: str
    ) -> Fitted | None:
        if shape not in self._skeletons:
            if len(self._skeletons) >= SHAPES_MAX:
                self._skeletons.clear()
            self._skeletons[shape] = self._learnt(template, shape)
        skeleton = self._skeletons[shape]
        return skeleton.fit(words, text) if skeleton is not None else None

    def _learnt(self, template: Template, shape: Shape) -> Skeleton | None:
        try:
            return learn(template, shape, self._specials, self._marked)
        except (TemplateError, TurnsNotFound):
            return None

    def _by_skeleton(self, dialogue: Sequence[Message], text: str, fitted: Fitted) -> Rendered:
        turns = fitted.skeleton.turns
        lost = [at for at, turn in enumerate(dialogue) if turn.learnt and turns[at].thought_lost]
        answers = [at for at, turn in enumerate(dialogue) if turn.role == "assistant"]
        if lost and lost[-1] == answers[-1]:
            raise ThoughtLost(
                f"turn {lost[-1] + 1} has a thought to be learnt, and the model's chat template"
                " leaves it out"
            )
        learnt = [turn.learnt and at not in lost for at, turn in enumerate(dialogue)]
        if self._answers_only:
            spans = [span for at in answers if learnt[at] for span in fitted.answer(at)]
        else:
            spans = _others(_unlearnt(dialogue, learnt, fitted), len(text))
        return Rendered(text, tuple(sorted(spans)), len(lost))

    def _without_skeleton(
        self, template: Template, dialogue: Sequence[Message], chat: Chat, text: str
    ) -> Rendered:
        """For a template whose frame depends on the words."""
        if not self._answers_only:
            return self._after_prompt(template, dialogue, chat, text)
        if self._marked:
            found = self._by_own_marks(template, chat, text)
        else:
            found = by_turn.answers(template, chat, text, self._specials)
        for at, turn in enumerate(dialogue):
            start, end = found.get(at, (0, 0))
            if turn.learnt and turn.thought and turn.thought.strip() not in text[start:end]:
                raise ThoughtLost(f"the chat template leaves out the thought of turn {at + 1}")
        return Rendered(text, tuple(found[at] for at in found if dialogue[at].learnt))

    def _by_own_marks(self, template: Template, chat: Chat, text: str) -> dict[int, Span]:
        """One span of generation marks for each answer, which has its words."""
        marked, spans = template.render_marked(chat)
        answers = [at for at, turn in enumerate(chat) if turn["role"] == "assistant"]
        found = dict(zip(answers, sorted(spans), strict=False))
        whole = len(answers) == len(spans) and marked == text
        if not whole or any(
            _answer_words(chat[at]["content"]) not in text[start:end]
            for at, (start, end) in found.items()
        ):
            raise TurnsNotFound("the chat template's generation marks do not enclose the answers")
        return found

    def _after_prompt(
        self, template: Template, dialogue: Sequence[Message], chat: Chat, text: str
    ) -> Rendered:
        """Loss on all that comes after the turns at the beginning that are not learnt."""
        first = next((at for at, turn in enumerate(dialogue) if turn.learnt), len(dialogue))
        thinks = any(turn.thought or "</think>" in turn.content for turn in dialogue)
        if thinks or not all(turn.learnt for turn in dialogue[first:]):
            raise TurnsNotFound("the turns cannot be told apart in what the chat template writes")
        prompt = template.render(chat[:first], prompt=True)
        if not text.startswith(prompt):
            raise TurnsNotFound("the chat template writes the prompt in another way on its own")
        return Rendered(text, ((len(prompt), len(text)),))


def _unlearnt(dialogue: Sequence[Message], learnt: Sequence[bool], fitted: Fitted) -> list[Span]:
    """The characters of turns that are not learnt, each with what the template writes before it,
    and up to where the model answers if an answer is next."""
    places = fitted.skeleton.turns
    spans: list[Span] = []
    before = 0
    for at in range(len(dialogue)):
        after = fitted.char(places[at].after)
        following = at + 1 < len(dialogue) and dialogue[at + 1].role == "assistant"
        if not learnt[at]:
            until = fitted.char(places[at + 1].begin) if following else after
            spans.append((before, max(after, until)))
        before = after
    return spans


def _others(spans: Sequence[Span], length: int) -> list[Span]:
    """What lies between these spans, which may overlap."""
    found: list[Span] = []
    at = 0
    for start, end in sorted(spans):
        if at < start:
            found.append((at, start))
        at = max(at, end)
    if at < length:
        found.append((at, length))
    return found


def _thinks(chat: Chat) -> bool:
    return any(GIVEN in turn for turn in chat)


def _answer_words(content: str) -> str:
    return content.rpartition("</think>")[2].strip()


def _pattern(added_tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds added tokens, the longest at each place; white space alone is none."""
    longest_first = sorted({token for token in added_tokens if token.strip()}, key=len)[::-1]
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
