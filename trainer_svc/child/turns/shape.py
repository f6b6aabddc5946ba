"""A dialogue with its words taken out.

Owns what a template may look at in a dialogue: who speaks, in which order, and whether a turn
has a thought. Dialogues of one shape are rendered alike around their words, so what is learnt
from a stand-in with marks for words holds for all of them (skeleton.py). Pure.

A thought that stands in an answer as "<think>...</think>" has a slot of its own, because
templates take it out of there.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from trainer_svc.child.turns.template import Chat, Turn

MARK_OF = "\u2063{}\u2063"
"""Stands for the words of a slot; no template takes it for white space or for syntax."""
MARK = re.compile("\u2063([0-9]+)\u2063")
THOUGHT_END = "</think>"
INLINE = re.compile(r"(\s*(?:<think>)?\s*)(.*?)(\s*</think>\s*)(.*)", re.DOTALL)


class Kind(Enum):
    """What a part of a content is."""

    FIXED = "fixed"
    WORDS = "words"
    THOUGHT = "thought"


Part = tuple[Kind, str]
"""The string of a FIXED part; of the others it is empty in a shape."""


@dataclass(frozen=True)
class TurnShape:
    """One turn. `thought_key` is the field of its thought, empty without one; `others` are its
    fields besides role, content and thought."""

    role: str
    content: tuple[Part, ...]
    thought_key: str
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Slot:
    """Where words stand: the number of the turn, and whether they are a thought."""

    turn: int
    thought: bool


Shape = tuple[TurnShape, ...]


def shape_of(chat: Chat, thought_key: str, breaks: Sequence[str]) -> tuple[Shape, tuple[str, ...]]:
    """The shape of `chat`, and its words in the order of slots_of. The thought of a turn is in
    its field `thought_key`; `breaks` are not words wherever they stand."""
    turns: list[TurnShape] = []
    words: list[str] = []
    for turn in chat:
        thought = turn.get(thought_key, "")
        parts = _parts(turn, breaks)
        words += [thought] if thought else []
        words += [text for kind, text in parts if kind is not Kind.FIXED]
        content = tuple((kind, text if kind is Kind.FIXED else "") for kind, text in parts)
        others = tuple(item for item in turn.items() if item[0] not in _READ | {thought_key})
        turns.append(TurnShape(turn["role"], content, thought_key if thought else "", others))
    return tuple(turns), tuple(words)


def slots_of(shape: Shape) -> tuple[Slot, ...]:
    """The slots of a shape, in the order of their marks' numbers."""
    slots: list[Slot] = []
    for number, turn in enumerate(shape):
        if turn.thought_key:
            slots.append(Slot(number, thought=True))
        slots += [
            Slot(number, kind is Kind.THOUGHT) for kind, _ in turn.content if kind is not Kind.FIXED
        ]
    return tuple(slots)


def stand_in(shape: Shape) -> Chat:
    """A dialogue of that shape with marks for words."""
    numbers = iter(range(len(slots_of(shape))))
    return [_stand_in(turn, numbers) for turn in shape]


_READ = frozenset({"role", "content"})


def _stand_in(turn: TurnShape, numbers: Iterator[int]) -> Turn:
    made: Turn = {"role": turn.role, "content": "", **dict(turn.others)}
    if turn.thought_key:
        made[turn.thought_key] = MARK_OF.format(next(numbers))
    for kind, text in turn.content:
        made["content"] += text if kind is Kind.FIXED else MARK_OF.format(next(numbers))
    return made


def _parts(turn: Turn, breaks: Sequence[str]) -> list[Part]:
    content: str = turn["content"]
    parts: list[Part] = [(Kind.WORDS, content)]
    if turn["role"] == "assistant" and THOUGHT_END in content:
        parts = _with_thought(content)
    for mark in breaks:
        parts = [piece for part in parts for piece in _broken(part, mark)]
    return parts


def _with_thought(content: str) -> list[Part]:
    found = INLINE.fullmatch(content)
    if found is None:
        return [(Kind.WORDS, content)]
    before, thought, after, answer = found.groups()
    if not thought:
        return [(Kind.FIXED, before + after), (Kind.WORDS, answer)]
    return [
        (Kind.FIXED, before),
        (Kind.THOUGHT, thought),
        (Kind.FIXED, after),
        (Kind.WORDS, answer),
    ]


def _broken(part: Part, mark: str) -> list[Part]:
    kind, text = part
    if kind is Kind.FIXED or mark not in text:
        return [part]
    pieces: list[Part] = []
    for number, piece in enumerate(text.split(mark)):
        if number:
            pieces.append((Kind.FIXED, mark))
        if piece:
            pieces.append((kind, piece))
    return pieces
