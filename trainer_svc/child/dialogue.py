"""What a row of a data set means: a dialogue, or a reason why it is none.

Owns the two formats, LCCC and messages, and how one is told from the other.
Pure. Refuses rows of wrong types and unknown roles (RowBroken); a row that is
sound but of no use is Unusable and is counted, not refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ROLES = ("system", "user", "assistant")


class RowFormat(StrEnum):
    """How the rows of a data set are written."""

    MESSAGES = "messages"
    LCCC = "lccc"


class RowBroken(Exception):
    """The row is not of its format; the message says what is wrong with it."""


@dataclass(frozen=True)
class Message:
    """One turn. `role` is one of ROLES."""

    role: str
    content: str


class Unusable(StrEnum):
    """Why a sound row is left out; the values are the contract's reasons."""

    EMPTY = "empty"
    NO_ASSISTANT_TURN = "no_assistant_turn"


Dialogue = tuple[Message, ...]


def format_of(row: Any) -> RowFormat:
    """The format that `row`, the first of a data set, is written in. Raises RowBroken."""
    if isinstance(row, list):
        return RowFormat.LCCC
    if isinstance(row, Mapping):
        if "messages" in row:
            return RowFormat.MESSAGES
        if "dialog" in row:
            return RowFormat.LCCC
        keys = ", ".join(sorted(map(str, row))[:8]) or "none"
        raise RowBroken(f'expected the key "messages" or "dialog", found: {keys}')
    raise RowBroken(f"expected a dialogue, found {_kind(row)}")


def to_dialogue(row: Any, row_format: RowFormat, system_prompt: str) -> Dialogue | Unusable:
    """The dialogue in `row`, `system_prompt` before it unless it is empty or the row has a
    system message of its own. Raises RowBroken."""
    turns = _lccc(row) if row_format is RowFormat.LCCC else _messages(row)
    if not any(turn.content.strip() for turn in turns):
        return Unusable.EMPTY
    if not any(turn.role == "assistant" for turn in turns):
        return Unusable.NO_ASSISTANT_TURN
    if system_prompt and turns[0].role != "system":
        turns = (Message("system", system_prompt), *turns)
    return turns


def _lccc(row: Any) -> Dialogue:
    """Utterances alternate between user and assistant. A last one of the user's has no
    answer to learn from and is left off."""
    utterances = row.get("dialog") if isinstance(row, Mapping) else row
    if not isinstance(utterances, list):
        raise RowBroken(f"expected a list of utterances, found {_kind(utterances)}")
    for number, utterance in enumerate(utterances, start=1):
        if not isinstance(utterance, str):
            raise RowBroken(f"utterance {number}: expected a text, found {_kind(utterance)}")
    paired = utterances if len(utterances) < 2 else utterances[: len(utterances) // 2 * 2]
    return tuple(
        Message("assistant" if index % 2 else "user", utterance.replace(" ", ""))
        for index, utterance in enumerate(paired)
    )


def _messages(row: Any) -> Dialogue:
    messages = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(messages, list):
        raise RowBroken(f'expected "messages" with a list, found {_kind(messages)}')
    return tuple(_message(number, message) for number, message in enumerate(messages, start=1))


def _message(number: int, message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise RowBroken(f"message {number}: expected an object, found {_kind(message)}")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise RowBroken(f"message {number}: unknown role {role!r}; known: {', '.join(ROLES)}")
    if message.get("tool_calls"):
        raise RowBroken(f"message {number}: tool calls are not supported")
    if not isinstance(content, str):
        raise RowBroken(f'message {number}: expected "content" with a text, found {_kind(content)}')
    return Message(str(role), content)


def as_chat(roles: Sequence[str], contents: Sequence[str]) -> list[dict[str, str]]:
    """A dialogue in the form that chat templates take."""
    return [
        {"role": role, "content": content} for role, content in zip(roles, contents, strict=True)
    ]


KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


def _kind(value: Any) -> str:
    return KINDS.get(type(value), type(value).__name__)
