"""What a row of a data set means: a dialogue, or a reason why it is none.

Owns the formats, and how one is told from another. Field names and roles are
those that Hugging Face, TRL, LLaMA-Factory and ms-swift read. Pure. Refuses
rows of wrong types, of another format and with unknown roles (RowBroken); a
row that is sound but of no use is Unusable and is counted, not refused.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

ROLES = ("system", "user", "assistant")


class RowFormat(StrEnum):
    """How the rows of a data set are written."""

    MESSAGES = "messages"
    LCCC = "lccc"
    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"
    PROMPT_COMPLETION = "prompt_completion"
    TEXT = "text"


class RowBroken(Exception):
    """The row is not of its format; the message says what is wrong with it."""


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


Dialogue = tuple[Message, ...]

# In this order, for a row may have the fields of several: that of Stanford's Alpaca has a
# "text" made of the others.
FORMAT_FIELDS: tuple[tuple[frozenset[str], RowFormat], ...] = (
    (frozenset({"messages"}), RowFormat.MESSAGES),
    (frozenset({"conversations"}), RowFormat.SHAREGPT),
    (frozenset({"conversation"}), RowFormat.SHAREGPT),
    (frozenset({"dialog"}), RowFormat.LCCC),
    (frozenset({"instruction"}), RowFormat.ALPACA),
    (frozenset({"prompt", "completion"}), RowFormat.PROMPT_COMPLETION),
    (frozenset({"text"}), RowFormat.TEXT),
)
FIELDS = frozenset({"input", "output", "system", "history", "images", "image"}).union(
    *(fields for fields, _ in FORMAT_FIELDS)
)
"""Every field that means something in a row."""

SPEAKERS: Mapping[str, str] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
}
"""Who speaks in ShareGPT's files, and the role that is."""
TOOL_SPEAKERS = frozenset(
    {"function", "function_call", "function_response", "observation", "tool", "tool_call"}
)


def format_of(row: Any) -> RowFormat:
    """The format that `row`, the first of a data set, is written in. Raises RowBroken."""
    if isinstance(row, list):
        return RowFormat.LCCC
    if not isinstance(row, Mapping):
        raise RowBroken(f"expected a dialogue, found {_kind(row)}")
    set_fields = [name for name, value in row.items() if value is not None]
    found = format_of_fields(set_fields) or format_of_fields(row)
    if found is None:
        keys = ", ".join(sorted(map(str, row))[:8]) or "none"
        raise RowBroken(f"expected {known_fields()}, found: {keys}")
    return found


def format_of_fields(names: Iterable[Any]) -> RowFormat | None:
    """The format of rows with fields of these names; None when there is none."""
    present = set(names)
    return next((form for fields, form in FORMAT_FIELDS if fields <= present), None)


def known_fields() -> str:
    """What a row must have, in words."""
    return "one of the keys " + ", ".join(
        " and ".join(f'"{name}"' for name in sorted(fields, reverse=True))
        for fields, _ in FORMAT_FIELDS
    )


def to_dialogue(row: Any, row_format: RowFormat, system_prompt: str) -> Dialogue | Unusable:
    """The dialogue in `row`, `system_prompt` before it unless it is empty or the row has a
    system message of its own. Plain text is one turn of the assistant's, and never has a system
    prompt. Raises RowBroken."""
    turns = READERS[row_format](row)
    if not any(turn.content.strip() for turn in turns):
        return Unusable.EMPTY
    if not any(turn.role == "assistant" and turn.learnt for turn in turns):
        return Unusable.NO_ASSISTANT_TURN
    if system_prompt and turns[0].role != "system" and row_format is not RowFormat.TEXT:
        turns = (Message("system", system_prompt, turns[0].learnt), *turns)
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
    return _message_list(_value(row, "messages"), "messages")


def _message_list(messages: Any, name: str) -> Dialogue:
    if not isinstance(messages, list):
        raise RowBroken(f'expected "{name}" with a list, found {_kind(messages)}')
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


def _alpaca(row: Any) -> Dialogue:
    """Instruction and input are one question, a line each. What was said before is in
    "history", and is learnt as well."""
    asked = [_text(row, name) for name in ("instruction", "input")]
    if asked == [None, None]:
        raise RowBroken('expected "instruction" with a text, found nothing')
    answer = _text(row, "output")
    if answer is None:
        raise RowBroken('expected "output" with a text, found nothing')
    question = "\n".join(part for part in asked if part)
    return (
        *_own_system(row),
        *_history(row),
        Message("user", question),
        Message("assistant", answer),
    )


def _history(row: Any) -> Dialogue:
    pairs = _value(row, "history") or []
    if not isinstance(pairs, list):
        raise RowBroken(f'expected "history" with a list, found {_kind(pairs)}')
    turns: list[Message] = []
    for number, pair in enumerate(pairs, start=1):
        texts = isinstance(pair, list) and all(isinstance(text, str) for text in pair)
        if not texts or len(pair) != 2:
            raise RowBroken(f"history {number}: expected a question and an answer, two texts")
        turns += (Message("user", pair[0]), Message("assistant", pair[1]))
    return tuple(turns)


def _sharegpt(row: Any) -> Dialogue:
    """An assistant's turn before the first question, with which many of ShareGPT's own
    dialogues begin, answers nothing that can be seen and is left off."""
    name = "conversation" if _value(row, "conversations") is None else "conversations"
    spoken = _value(row, name)
    if not isinstance(spoken, list):
        raise RowBroken(f'expected "conversations" with a list, found {_kind(spoken)}')
    turns = tuple(_spoken(number, turn) for number, turn in enumerate(spoken, start=1))
    begin = 1 if turns and turns[0].role == "system" else 0
    before = turns[:begin] or _own_system(row)
    while begin < len(turns) and turns[begin].role == "assistant":
        begin += 1
    return (*before, *turns[begin:])


def _spoken(number: int, turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise RowBroken(f"turn {number}: expected an object, found {_kind(turn)}")
    speaker = _first(turn, "from", "role")
    if not isinstance(speaker, str):
        raise RowBroken(f'turn {number}: expected "from" with a text, found {_kind(speaker)}')
    if speaker in TOOL_SPEAKERS or turn.get("tool_calls"):
        raise RowBroken(f"turn {number}: tool calls are not supported")
    if speaker not in SPEAKERS:
        known = ", ".join(SPEAKERS)
        raise RowBroken(f"turn {number}: unknown speaker {speaker!r}; known: {known}")
    text = _first(turn, "value", "content")
    if not isinstance(text, str):
        raise RowBroken(f'turn {number}: expected "value" with a text, found {_kind(text)}')
    return Message(SPEAKERS[speaker], text)


def _prompt_completion(row: Any) -> Dialogue:
    """Texts become a user's turn and the assistant's: the models trained here answer through
    their chat template, so what they learn has to stand in it too, where TRL would put the two
    texts end to end. Only the completion is learnt, also of lists of messages."""
    prompt, completion = _value(row, "prompt"), _value(row, "completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return (Message("user", prompt, learnt=False), Message("assistant", completion))
    if isinstance(prompt, list) and isinstance(completion, list):
        asked = _message_list(prompt, "prompt")
        unlearnt = (replace(turn, learnt=False) for turn in asked)
        return (*unlearnt, *_message_list(completion, "completion"))
    raise RowBroken(
        'expected "prompt" and "completion" with two texts or two lists of messages,'
        f" found {_kind(prompt)} and {_kind(completion)}"
    )


def _plain_text(row: Any) -> Dialogue:
    text = _text(row, "text")
    if text is None:
        raise RowBroken('expected "text" with a text, found nothing')
    return (Message("assistant", text),)


READERS: Mapping[RowFormat, Callable[[Any], Dialogue]] = {
    RowFormat.MESSAGES: _messages,
    RowFormat.LCCC: _lccc,
    RowFormat.ALPACA: _alpaca,
    RowFormat.SHAREGPT: _sharegpt,
    RowFormat.PROMPT_COMPLETION: _prompt_completion,
    RowFormat.TEXT: _plain_text,
}


def _own_system(row: Any) -> Dialogue:
    """The row's own system message, if it has one."""
    system = _text(row, "system")
    return (Message("system", system),) if system else ()


def _value(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, Mapping) else None


def _text(row: Any, name: str) -> str | None:
    value = _value(row, name)
    if value is not None and not isinstance(value, str):
        raise RowBroken(f'expected "{name}" with a text, found {_kind(value)}')
    return value


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


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


def as_columns(dialogue: Sequence[Message]) -> dict[str, list[Any]]:
    """A dialogue as columns of a table, a list for each field of Message."""
    return {
        column: [getattr(message, name) for message in dialogue] for column, name in COLUMNS.items()
    }


def from_columns(row: Mapping[str, Sequence[Any]]) -> Dialogue:
    """The dialogue in the columns that as_columns makes; other columns are passed over."""
    values = zip(*(row[column] for column in COLUMNS), strict=True)
    return tuple(Message(**dict(zip(COLUMNS.values(), turn, strict=True))) for turn in values)


COLUMNS: Mapping[str, str] = {
    "roles": "role",
    "contents": "content",
    "learnt": "learnt",
    "thoughts": "thought",
    "names": "name",
}
"""The columns of as_columns, and the field of Message that each holds."""


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
