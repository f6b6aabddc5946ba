"""What a row means: a dialogue, or a reason why it is of no use.

Owns a reader for each format. Pure. Refuses rows of wrong types and of another
format (RowBroken) and of kinds that are not learnt from (RowRefused); a row that
is sound but of no use is Unusable and is counted, not refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trainer_svc.child.dialogue import Dialogue, Message, Unusable
from trainer_svc.child.rows.broken import RowBroken, kind_of
from trainer_svc.child.rows.formats import RowFormat
from trainer_svc.child.rows.notes import Notes
from trainer_svc.child.rows.turns import Wording, read_turns

_KEYS = {"roles": ("role", "from"), "contents": ("content", "value")}
_SHAREGPT_KEYS = {"roles": ("from", "role"), "contents": ("value", "content")}
MESSAGES = Wording("messages", "message", **_KEYS)
PROMPT = Wording("prompt", "message", **_KEYS)
COMPLETION = Wording("completion", "message", **_KEYS)
CONVERSATIONS = Wording("conversations", "turn", **_SHAREGPT_KEYS)
CONVERSATION = Wording("conversation", "turn", **_SHAREGPT_KEYS)


def to_dialogue(
    row: Any, row_format: RowFormat, system_prompt: str, notes: Notes | None = None
) -> Dialogue | Unusable:
    """The dialogue in `row`, whose fields have their own names, `system_prompt` before it unless
    it is empty or the row has a system message of its own. Plain text is one turn of the
    assistant's, and never has a system prompt. Raises RowBroken, RowRefused."""
    turns = READERS[row_format](row, Notes() if notes is None else notes)
    if not any(turn.content.strip() for turn in turns):
        return Unusable.EMPTY
    if not any(turn.role == "assistant" and turn.learnt for turn in turns):
        answers = any(turn.role == "assistant" for turn in turns)
        return Unusable.NO_SUPERVISED_TOKENS if answers else Unusable.NO_ASSISTANT_TURN
    if system_prompt and turns[0].role != "system" and row_format is not RowFormat.TEXT:
        turns = (Message("system", system_prompt, turns[0].learnt), *turns)
    return turns


def _lccc(row: Any, notes: Notes) -> Dialogue:
    """Utterances alternate between user and assistant. A last one of the user's has no
    answer to learn from and is left off."""
    utterances = row.get("dialog") if isinstance(row, dict) else row
    if not isinstance(utterances, list):
        raise RowBroken(f"expected a list of utterances, found {kind_of(utterances)}")
    for number, utterance in enumerate(utterances, start=1):
        if not isinstance(utterance, str):
            raise RowBroken(f"utterance {number}: expected a string, found {kind_of(utterance)}")
    paired = utterances if len(utterances) < 2 else utterances[: len(utterances) // 2 * 2]
    return tuple(
        Message("assistant" if index % 2 else "user", utterance.replace(" ", ""))
        for index, utterance in enumerate(paired)
    )


def _messages(row: Any, notes: Notes) -> Dialogue:
    turns = read_turns(_value(row, "messages"), MESSAGES, notes)
    return (*_own_system(row, turns, notes), *turns)


def _alpaca(row: Any, notes: Notes) -> Dialogue:
    """Instruction and input are one question, a line each. What was said before is in
    "history", and is learnt as well."""
    asked = [_string(row, name) for name in ("instruction", "input")]
    if asked == [None, None]:
        raise RowBroken('expected "instruction" with a string, found nothing')
    answer = _string(row, "output")
    if answer is None:
        raise RowBroken('expected "output" with a string, found nothing')
    question = "\n".join(part for part in asked if part)
    return (
        *_own_system(row, (), notes),
        *_history(row),
        Message("user", question),
        Message("assistant", answer),
    )


def _history(row: Any) -> Dialogue:
    pairs = _value(row, "history") or []
    if not isinstance(pairs, list):
        raise RowBroken(f'expected "history" with a list, found {kind_of(pairs)}')
    turns: list[Message] = []
    for number, pair in enumerate(pairs, start=1):
        strings = isinstance(pair, list) and all(isinstance(one, str) for one in pair)
        if not strings or len(pair) != 2:
            raise RowBroken(f"history {number}: expected a question and an answer, two strings")
        turns += (Message("user", pair[0]), Message("assistant", pair[1]))
    return tuple(turns)


def _sharegpt(row: Any, notes: Notes) -> Dialogue:
    """An assistant's turn before the first question, with which many of ShareGPT's own
    dialogues begin, answers nothing that can be seen and is left off."""
    wording = CONVERSATION if _value(row, "conversations") is None else CONVERSATIONS
    if wording is CONVERSATION and _value(row, "conversation") is None:
        raise RowBroken('expected "conversations" with a list, found nothing')
    turns = read_turns(_value(row, wording.key), wording, notes)
    before = _own_system(row, turns, notes)
    begin = 1 if turns and turns[0].role == "system" else 0
    end = begin
    while end < len(turns) and turns[end].role == "assistant":
        end += 1
    return (*before, *turns[:begin], *turns[end:])


def _prompt_completion(row: Any, notes: Notes) -> Dialogue:
    """Strings become a user's turn and the assistant's: the models trained here answer through
    their chat template, so what they learn has to stand in it too, where TRL would put the two
    end to end. Only the completion is learnt, also of lists of messages."""
    prompt, completion = _value(row, "prompt"), _value(row, "completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        system = _own_system(row, (), notes)
        asked, answered = [Message("user", prompt)], [Message("assistant", completion)]
    elif isinstance(prompt, list) and isinstance(completion, list):
        asked = read_turns(prompt, PROMPT, notes)
        answered = read_turns(completion, COMPLETION, notes)
        system = _own_system(row, asked, notes)
    else:
        raise RowBroken(
            'expected "prompt" and "completion" with two strings or two lists of messages,'
            f" found {kind_of(prompt)} and {kind_of(completion)}"
        )
    unlearnt = (replace(turn, learnt=False) for turn in (*system, *asked))
    return (*unlearnt, *answered)


def _plain_text(row: Any, notes: Notes) -> Dialogue:
    text = _string(row, "text")
    if text is None:
        raise RowBroken('expected "text" with a string, found nothing')
    return (Message("assistant", text),)


READERS: Mapping[RowFormat, Callable[[Any, Notes], Dialogue]] = {
    RowFormat.MESSAGES: _messages,
    RowFormat.LCCC: _lccc,
    RowFormat.ALPACA: _alpaca,
    RowFormat.SHAREGPT: _sharegpt,
    RowFormat.PROMPT_COMPLETION: _prompt_completion,
    RowFormat.TEXT: _plain_text,
}


def _own_system(row: Any, turns: list[Message] | tuple[()], notes: Notes) -> Dialogue:
    """The row's own system message, if it has one and `turns` do not begin with one."""
    system = _string(row, "system")
    if system and turns and turns[0].role == "system":
        notes.ignored.add("system")
        return ()
    return (Message("system", system),) if system else ()


def _value(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else None


def _string(row: Any, name: str) -> str | None:
    value = _value(row, name)
    if value is not None and not isinstance(value, str):
        raise RowBroken(f'expected "{name}" with a string, found {kind_of(value)}')
    return value
