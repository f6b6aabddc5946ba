"""What a chat template writes around the words of dialogues of one shape.

Owns how that is learnt, from a stand-in with marks for words, and how a rendered dialogue is
held against it. A skeleton says nothing about a string that it does not fit to the last
character. Refuses a template that leaves out what somebody says, or writes it twice
(TurnsNotFound).

An answer begins where the prompt for it ends, and ends with the first special token that the
template writes after it when the answer is the last turn, as far as the whole dialogue has the
same. What the prompt does not contain, the model has to write: this counts as the answer, an
empty thought for example.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from jinja2 import TemplateError

from trainer_svc.child.turns.refusals import TurnsNotFound
from trainer_svc.child.turns.shape import MARK, Shape, slots_of, stand_in
from trainer_svc.child.turns.template import Chat, Span, Template

Place = tuple[int, int]
"""A place in a skeleton: the number of a literal, and how many of its characters are before."""


@dataclass(frozen=True)
class TurnPlaces:
    """One turn: where an answer begins (of other turns, their first words) and ends, and where
    the turn itself ends, with the white space after it."""

    begin: Place
    end: Place
    after: Place
    thought_lost: bool


@dataclass(frozen=True)
class Skeleton:
    """`literals` stand before, between and after the words; `order` has the slot that stands
    after each. `marked`: for each turn, what the template's generation marks enclose; None for
    a template without."""

    literals: tuple[str, ...]
    order: tuple[int, ...]
    turns: tuple[TurnPlaces, ...]
    marked: tuple[tuple[tuple[Place, Place], ...], ...] | None

    def fit(self, words: Sequence[str], text: str) -> "Fitted | None":
        """Where the literals stand in `text`, the rendered dialogue; None if it does not fit."""
        at = 0
        begins: list[int] = []
        for literal, number in zip(self.literals, (*self.order, -1), strict=True):
            if not text.startswith(literal, at):
                return None
            begins.append(at)
            at += len(literal)
            if number < 0:
                break
            following = self.literals[len(begins)]
            length = _rendered_length(words[number], following, text, at)
            if length is None:
                return None
            at += length
        return Fitted(self, tuple(begins)) if at == len(text) else None


@dataclass(frozen=True)
class Fitted:
    """A skeleton in one rendered dialogue: where each literal begins."""

    skeleton: Skeleton
    begins: tuple[int, ...]

    def char(self, place: Place) -> int:
        """Where that place is in the string."""
        literal, offset = place
        return self.begins[literal] + offset

    def answer(self, turn: int) -> list[Span]:
        """The characters of that turn's answer."""
        if self.skeleton.marked is None:
            places = self.skeleton.turns[turn]
            return [(self.char(places.begin), self.char(places.end))]
        return [(self.char(start), self.char(end)) for start, end in self.skeleton.marked[turn]]


def _rendered_length(word: str, following: str, text: str, at: int) -> int | None:
    """How long `word` is in `text`: as it is, or without white space at its ends."""
    for form in (
        word,
        word.strip(),
        word.lstrip(),
        word.rstrip(),
        word.strip("\n"),
        word.lstrip("\n"),
        word.rstrip("\n"),
    ):
        if text.startswith(form, at) and text.startswith(following, at + len(form)):
            return len(form)
    return None


def learn(template: Template, shape: Shape, specials: re.Pattern[str], marked: bool) -> Skeleton:
    """The skeleton of that shape; `specials` finds special tokens, `marked` says that the
    template has generation marks. Raises TemplateError, TurnsNotFound."""
    return _Learner(template, shape, specials).learn(marked)


@dataclass
class _Learner:
    template: Template
    shape: Shape
    specials: re.Pattern[str]
    _begins: dict[tuple[str, str, bool], int] = field(default_factory=dict)
    _ends: dict[tuple[str, str, bool], tuple[int, int]] = field(default_factory=dict)

    def learn(self, marked: bool) -> Skeleton:
        self.chat = stand_in(self.shape)
        self.slots = slots_of(self.shape)
        spans: list[Span] = []
        if marked:
            text, spans = self.template.render_marked(self.chat)
        else:
            text = self.template.render(self.chat)
        pieces = MARK.split(text)
        self.literals = tuple(pieces[::2])
        self.order = tuple(int(number) for number in pieces[1::2])
        self._require_every_word()
        turns = tuple(self._turn(number) for number in range(len(self.shape)))
        by_turn = self._marked(text, spans) if marked else None
        return Skeleton(self.literals, self.order, turns, by_turn)

    def _require_every_word(self) -> None:
        if len(set(self.order)) != len(self.order):
            raise TurnsNotFound("the chat template writes what somebody says twice")
        for number, slot in enumerate(self.slots):
            if not slot.thought and number not in self.order:
                raise TurnsNotFound(f"the chat template leaves out turn {slot.turn + 1}")

    def _turn(self, number: int) -> TurnPlaces:
        shown = [at for at, slot in enumerate(self.order) if self.slots[slot].turn == number]
        before = self._literal_before(number)
        first, last = (shown[0], shown[-1] + 1) if shown else (before, before)
        lost = any(
            slot.turn == number and slot.thought and at not in self.order
            for at, slot in enumerate(self.slots)
        )
        begin = self._begin(number, first, bool(shown))
        end, after = self._end(number, last, begin if first == last else 0)
        return TurnPlaces((first, begin), (last, end), (last, after), lost)

    def _literal_before(self, number: int) -> int:
        """The literal in which a turn without words stands: the one after those before it."""
        earlier = [at for at, slot in enumerate(self.order) if self.slots[slot].turn < number]
        return earlier[-1] + 1 if earlier else 0

    def _begin(self, number: int, literal: int, shown: bool) -> int:
        """How many characters of that literal are before the answer."""
        text = self.literals[literal]
        if self.shape[number].role != "assistant":
            return len(text)
        key = (text, self.shape[number - 1].role if number else "", shown)
        if key not in self._begins:
            self._begins[key] = self._measured_begin(self.chat[:number], literal, shown)
        return self._begins[key]

    def _measured_begin(self, before: Chat, literal: int, shown: bool) -> int:
        text = self.literals[literal]
        try:
            prompt = self.template.render(before, prompt=True)
            if shown and prompt == self.template.render(before):  # no generation prompt
                return len(text)
        except TemplateError:  # nothing to answer, or nothing that this template takes
            return len(text)
        return self._agreed(prompt, literal)

    def _agreed(self, other: str, literal: int) -> int:
        """As far as `other` agrees with that literal after the mark before it, in whole special
        tokens."""
        text = self.literals[literal]
        pieces = MARK.split(other)
        before = str(self.order[literal - 1]) if literal else ""
        if (pieces[-2] if len(pieces) > 1 else "") != before:
            return self._whole_tokens(text, longest_overlap(pieces[-1], text))
        return self._whole_tokens(text, common(pieces[-1], text))

    def _whole_tokens(self, text: str, length: int) -> int:
        for found in self.specials.finditer(text):
            if found.start() < length < found.end():
                return found.start()
        return length

    def _end(self, number: int, literal: int, at_least: int) -> tuple[int, int]:
        """How many characters of that literal the answer has, and how many the turn."""
        text = self.literals[literal]
        is_last = number == len(self.shape) - 1
        key = (text, self.shape[number].role, is_last)
        if key not in self._ends or at_least:
            self._ends[key] = self._measured_end(number, literal, is_last, at_least)
        return self._ends[key]

    def _measured_end(
        self, number: int, literal: int, is_last: bool, at_least: int
    ) -> tuple[int, int]:
        text = self.literals[literal]
        length = len(text)
        tail = text
        if not is_last:
            try:
                tail = MARK.split(self.template.render(self.chat[: number + 1]))[-1]
            except TemplateError:
                tail = ""
            length = max(self._whole_tokens(text, common(tail, text)), at_least)
        found = self.specials.search(text, at_least, length)
        if found is not None:
            closed = len(text) - len(text[found.end() :].lstrip())
            return found.end(), length if is_last else min(length, closed)
        closing = self.specials.match(text, length) if not is_last else None
        if closing is None:
            return length, length
        if tail[at_least:].strip():
            # Closed by another token than the one that the model has to write.
            return length, closing.end()
        # No end of its own: what stops the model is the token that begins the next turn.
        return closing.end(), length

    def _marked(
        self, text: str, spans: Sequence[Span]
    ) -> tuple[tuple[tuple[Place, Place], ...], ...]:
        """What the marks enclose, by turn: a span belongs to the answer whose words are in it,
        or that was the last before it."""
        by_turn: list[list[tuple[Place, Place]]] = [[] for _ in self.shape]
        places = _Places(text)
        owner = next((at for at, turn in enumerate(self.shape) if turn.role == "assistant"), 0)
        for start, end in sorted(spans):
            owner = self._owner(text, start, end, owner)
            by_turn[owner].append((places.at(start, begin=True), places.at(end, begin=False)))
        for number, turn in enumerate(self.shape):
            self._require_words_in(number, turn.role, by_turn[number])
        return tuple(map(tuple, by_turn))

    def _owner(self, text: str, start: int, end: int, before: int) -> int:
        inside = [self.slots[int(found[1])] for found in MARK.finditer(text, start, end)]
        turns = {slot.turn for slot in inside}
        if any(self.shape[turn].role != "assistant" for turn in turns) or len(turns) > 1:
            raise TurnsNotFound("the chat template's generation marks enclose other turns")
        return turns.pop() if turns else before

    def _require_words_in(
        self, number: int, role: str, spans: Sequence[tuple[Place, Place]]
    ) -> None:
        if role != "assistant" or not spans:
            return
        for at, slot in enumerate(self.order):
            if self.slots[slot].turn == number and not any(
                start[0] <= at < end[0] for start, end in spans
            ):
                raise TurnsNotFound("the chat template's generation marks leave out answers")


class _Places:
    """From characters of a skeleton's own string to places."""

    def __init__(self, text: str) -> None:
        self._literals: list[Span] = []
        at = 0
        for found in MARK.finditer(text):
            self._literals.append((at, found.start()))
            at = found.end()
        self._literals.append((at, len(text)))

    def at(self, char: int, begin: bool) -> Place:
        """The place of that character; next to words it is the one that leaves them inside."""
        order = range(len(self._literals))
        for literal in order if begin else reversed(order):
            start, end = self._literals[literal]
            if start <= char <= end:
                return literal, char - start
        raise TurnsNotFound("the chat template's generation marks divide words")


def common(one: str, other: str) -> int:
    """The number of characters that both begin with."""
    pairs = zip(one, other, strict=False)
    short = min(len(one), len(other))
    return next((at for at, (here, there) in enumerate(pairs) if here != there), short)


def longest_overlap(prompt: str, text: str) -> int:
    """The end, in `text`, of the longest beginning of a tail of `prompt` that it has; 0 if none.
    For a template that writes other words before the prompt than before the answer."""
    lines = [at for at in range(len(prompt)) if at == 0 or prompt[at - 1].isspace()]
    for start in lines:
        found = text.rfind(prompt[start:])
        if prompt[start:].strip() and found >= 0:
            return found + len(prompt) - start
    return 0
