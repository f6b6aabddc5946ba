"""One message of a row: who speaks, what is said, and whether it is learnt.

Owns roles, weights, thoughts and names. Refuses unknown roles, wrong types and
weights other than 0 and 1 (RowBroken), and messages of tools, videos and sounds
(RowRefused).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer_svc.child.dialogue import Message
from trainer_svc.child.rows.broken import RowBroken, is_set, kind_of
from trainer_svc.child.rows.notes import Notes
from trainer_svc.child.rows.parts import join_parts
from trainer_svc.child.rows.refusals import TOOL_ROLES, TOOLS, RowRefused, refuse_message

SPEAKERS: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""Who speaks in published files, and the role that is. Capital letters make no difference."""
WEIGHTS = ("weight", "loss", "loss_weight", "loss_scale", "train")
"""OpenAI's, ms-swift's, LLaMA-Factory's, ms-swift's again, axolotl's."""
WEIGHTS_OF_PARTS = ("train_detail", "training_detail")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
MISPLACED = ("images", "image")


@dataclass(frozen=True)
class Wording:
    """How a list of messages is written: its key, what one of it is called, and the keys of role
    and content, the usual one first."""

    key: str
    turn: str
    roles: tuple[str, ...]
    contents: tuple[str, ...]


def read_turns(messages: Any, wording: Wording, notes: Notes) -> list[Message]:
    """The turns in a list of messages. Raises RowBroken, RowRefused."""
    if not isinstance(messages, list):
        raise RowBroken(f'expected "{wording.key}" with a list, found {kind_of(messages)}')
    role_key, content_key = wording.roles[0], wording.contents[0]
    turns = []
    for number, message in enumerate(messages, start=1):
        if type(message) is dict and len(message) == 2:  # most are
            role = SPEAKERS.get(message.get(role_key, ""))
            content = message.get(content_key)
            if role and type(content) is str:
                turns.append(Message(role, content))
                continue
        turns.append(_Turn(f"{wording.turn} {number}", message, wording, notes).read())
    return turns


class _Turn:
    """Reads one message."""

    def __init__(self, place: str, message: Any, wording: Wording, notes: Notes) -> None:
        if not isinstance(message, Mapping):
            raise RowBroken(f"{place}: expected an object, found {kind_of(message)}")
        self._place = place
        self._message = message
        self._wording = wording
        self._notes = notes
        self._unused = {key for key, value in message.items() if is_set(value)}

    def read(self) -> Message:
        role = self._role()
        refuse_message(self._message, self._place)
        content, thought = self._content()
        self._require_nothing_beside()
        if role == "assistant":
            thought = self._thought(thought)
        elif thought:
            raise RowBroken(f"{self._place}: a thought that is not the assistant's")
        turn = Message(role, content, self._learnt(role), thought, self._name())
        if self._unused:
            key = self._wording.key
            self._notes.ignored.update(f"{key}[].{name}" for name in self._unused)
        return turn

    def _role(self) -> str:
        name, speaker = self._first(self._wording.roles)
        if not isinstance(speaker, str):
            raise RowBroken(f'{self._place}: expected "{name}" with a role, found'
                            f" {kind_of(speaker)}")  # fmt: skip
        role = SPEAKERS.get(speaker) or SPEAKERS.get(speaker.lower())
        if role is None:
            if speaker.lower() in TOOL_ROLES:
                raise RowRefused(TOOLS, f'{self._place}: the role "{speaker}"')
            known = ", ".join(SPEAKERS)
            raise RowBroken(f"{self._place}: unknown role {speaker!r:.80}; known: {known}")
        return role

    def _content(self) -> tuple[str, str]:
        """The content, and a thought that stands in its parts."""
        name, content = self._first(self._wording.contents)
        if isinstance(content, str):
            return content, ""
        if not isinstance(content, list):
            raise RowBroken(
                f'{self._place}: expected "{name}" with a string or a list of parts, found'
                f" {kind_of(content)}"
            )
        key = f"{self._wording.key}[].{name}[]"
        joined = join_parts(content, self._place, key, self._notes)
        return "".join(joined.texts), "".join(joined.thoughts)

    def _require_nothing_beside(self) -> None:
        for name in (*MISPLACED, *WEIGHTS_OF_PARTS):
            if name not in self._unused:
                continue
            if name in MISPLACED:
                raise RowBroken(
                    f'{self._place}: pictures beside a message ("{name}")',
                    "Give pictures as parts of the content, or as images of the row.",
                )
            raise RowBroken(
                f'{self._place}: "{name}": weights for parts of a message are not supported',
                "Take the key out, or make messages of the parts.",
            )

    def _learnt(self, role: str) -> bool:
        weights = {name: self._weight(name) for name in WEIGHTS if name in self._unused}
        if not weights:
            return True
        learnt = set(weights.values())
        if len(learnt) > 1:
            names = ", ".join(f'"{name}"' for name in weights)
            raise RowBroken(f"{self._place}: {names} say different things")
        self._unused.difference_update(weights)
        if role != "assistant" and True in learnt and not self._notes.asks_to_learn:
            (name, *_) = weights
            self._notes.asks_to_learn = f'{self._place}: "{name}" says to learn a {role} turn'
        return learnt.pop()

    def _weight(self, name: str) -> bool:
        value = self._message[name]
        if isinstance(value, bool | int | float) and value in (0, 1):
            return bool(value)
        if isinstance(value, int | float):
            raise RowBroken(
                f'{self._place}: "{name}" is {value}; fractional weights are not supported, only 0'
                " and 1 are"
            )
        raise RowBroken(f'{self._place}: expected "{name}" with 0 or 1, found {kind_of(value)}')

    def _thought(self, in_parts: str) -> str:
        found = {name: self._message[name] for name in THOUGHTS if name in self._unused}
        for name, value in found.items():
            if not isinstance(value, str):
                raise RowBroken(
                    f'{self._place}: expected "{name}" with a string, found {kind_of(value)}'
                )
        thoughts = {*found.values(), *filter(None, [in_parts])}
        if len(thoughts) > 1:
            raise RowBroken(f"{self._place}: has several thoughts, and they differ")
        self._unused.difference_update(found)
        thought = thoughts.pop() if thoughts else ""
        return thought if thought.strip() else ""

    def _name(self) -> str:
        if "name" not in self._unused:
            return ""
        name = self._message["name"]
        if not isinstance(name, str):
            raise RowBroken(f'{self._place}: expected "name" with a string, found {kind_of(name)}')
        self._unused.discard("name")
        return name

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        """The first of these keys that has a value, and its value; it is used then."""
        for name in names:
            value = self._message.get(name)
            if value is not None:
                self._unused.discard(name)
                return name, value
        return names[0], None
