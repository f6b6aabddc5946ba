"""A dialogue: what every row of every format is made into.

Owns the turns, their form for chat templates, and their form as columns of a
table, written and read here alone. Pure. Refuses nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn. `role` is one of ROLES. A turn that is not `learnt` carries no loss, whoever
    speaks. `thought` is what the assistant thinks before it answers, `name` who speaks in the
    role; both are empty where the row has none, and the chat template decides where they go."""

    role: str
    content: str
    learnt: bool = True
    thought: str = ""
    name: str = ""


class Unusable(StrEnum):
    """Why a sound row is left out; the values are the contract's reasons."""

    EMPTY = "empty"
    NO_ASSISTANT_TURN = "no_assistant_turn"
    NO_SUPERVISED_TOKENS = "no_supervised_tokens"


Dialogue = tuple[Message, ...]


def as_chat(dialogue: Iterable[Message]) -> list[dict[str, str]]:
    """A dialogue in the form that chat templates take: "reasoning_content" and "name" stand only
    in the turns that have them."""
    return [_turn(message) for message in dialogue]


def _turn(message: Message) -> dict[str, str]:
    turn = {"role": message.role, "content": message.content}
    if message.thought:
        turn["reasoning_content"] = message.thought
    if message.name:
        turn["name"] = message.name
    return turn


COLUMNS: Mapping[str, str] = {
    "roles": "role",
    "contents": "content",
    "learnt": "learnt",
    "thoughts": "thought",
    "names": "name",
}
"""The columns of as_columns, and the field of Message that each holds."""


def as_columns(dialogue: Sequence[Message]) -> dict[str, list[Any]]:
    """A dialogue as columns of a table, a list for each field of Message."""
    return {
        column: [getattr(message, name) for message in dialogue] for column, name in COLUMNS.items()
    }


def from_columns(row: Mapping[str, Sequence[Any]]) -> Dialogue:
    """The dialogue in the columns that as_columns makes; other columns are passed over."""
    values = zip(*(row[column] for column in COLUMNS), strict=True)
    return tuple(Message(**dict(zip(COLUMNS.values(), turn, strict=True))) for turn in values)
