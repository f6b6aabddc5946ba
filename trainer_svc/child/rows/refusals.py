"""The kinds of data that a job which learns by imitation cannot learn from.

Owns the one table from a key to what it is and what to do: every reader asks
here, so that no kind is trained on by mistake as another. Pure. Refuses
preference data and data with good and bad answers as a whole, whatever else
their rows have, and single rows with tools, videos or sounds (RowRefused).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer_svc.child.rows.broken import is_set

UNSUPPORTED_TOOLS = "unsupported_tools"
UNSUPPORTED_MEDIA = "unsupported_media"


@dataclass(frozen=True)
class Refusal:
    """A kind of data. `reason` is the contract's for one such row that is left out; empty: the
    whole source is refused, strict or not."""

    what: str
    hint: str
    reason: str = ""


class RowRefused(Exception):
    """The row is of a kind that is not learnt from; the message says of which and why."""

    def __init__(self, refusal: Refusal, found: str) -> None:
        super().__init__(f"{found}: {refusal.what}")
        self.refusal = refusal


PREFERENCE = Refusal(
    "this is preference data; this job learns by imitation (SFT), from one answer to each question",
    "Make a data set of the answers to imitate. A column that holds them can be named in columns:"
    ' --data "FILE,completion=chosen", or messages=chosen where it holds whole dialogues.',
)
LABELS = Refusal(
    "this is data with good and bad answers, as for KTO; this job learns by imitation (SFT) and"
    " would learn the bad ones too",
    "Keep the rows with good answers and take the key out; rename it if it means something else.",
)
TOOLS = Refusal(
    "training with tools is not supported",
    "Take such rows out, or set strict to false to leave them out.",
    UNSUPPORTED_TOOLS,
)
MEDIA = Refusal(
    "videos and sounds are not supported, only pictures are",
    "Take such rows out, or set strict to false to leave them out.",
    UNSUPPORTED_MEDIA,
)

REFUSED: Mapping[str, Refusal] = {
    "chosen": PREFERENCE,
    "rejected": PREFERENCE,
    "chosen_messages": PREFERENCE,
    "rejected_messages": PREFERENCE,
    "chosen_response": PREFERENCE,
    "rejected_response": PREFERENCE,
    "rejected_responses": PREFERENCE,
    "rejected_images": PREFERENCE,
    "preferred_output": PREFERENCE,
    "non_preferred_output": PREFERENCE,
    "better_response_id": PREFERENCE,
    "safer_response_id": PREFERENCE,
    "kto_tag": LABELS,
    "tools": TOOLS,
    "tool_calls": TOOLS,
    "functions": TOOLS,
    "function_call": TOOLS,
    "videos": MEDIA,
    "video": MEDIA,
    "audios": MEDIA,
    "audio": MEDIA,
}
"""Of a row and of a message."""
REFUSED_KEYS = frozenset(REFUSED)
LABEL = "label"
"""Means good or bad only if its values do."""
KEYS = REFUSED_KEYS | {LABEL}
"""Every key of a row that is looked at here."""

TOOL_ROLES = frozenset(
    {
        "function", "function_call", "function_response", "ipython", "observation",
        "tool", "tool_call", "tool_response", "tool_result",
    }
)  # fmt: skip
TOOL_PARTS = frozenset(
    {"function", "function_call", "tool_call", "tool_calls", "tool_result", "tool_use", "tools"}
)
MEDIA_PARTS = frozenset(
    {"audio", "audio_url", "file", "input_audio", "input_file", "video", "video_url"}
)
_BARE = frozenset({"", "[]", "{}", "null", "none"})
_GOOD_OR_BAD = frozenset({"true", "false", "0", "1"})


def refuse_row(row: Mapping[str, Any], is_text: bool, imitated: frozenset[str]) -> None:
    """Looks at the keys of a row. `imitated`: keys that the job itself names as what to learn.
    Of plain text (`is_text`) a label says what it is about. Raises RowRefused."""
    if not REFUSED_KEYS.isdisjoint(row):
        _refuse(row, "", imitated)
    if LABEL in row and not is_text and _says_good_or_bad(row[LABEL]):
        raise RowRefused(LABELS, f'the key "{LABEL}"')


def refuse_message(message: Mapping[str, Any], place: str) -> None:
    """Looks at the keys of one message; `place` says which. Raises RowRefused."""
    if not REFUSED_KEYS.isdisjoint(message):
        _refuse(message, f"{place}: ", frozenset())


def _refuse(values: Mapping[str, Any], place: str, imitated: frozenset[str]) -> None:
    found = [key for key in REFUSED if key in values and _says_something(values[key])]
    if not imitated.isdisjoint(found):
        found = [key for key in found if REFUSED[key] is not PREFERENCE]
    if found:
        refusal = REFUSED[found[0]]
        same = [f'"{key}"' for key in found if REFUSED[key] is refusal]
        keys = "the key" if len(same) == 1 else "the keys"
        raise RowRefused(refusal, f"{place}{keys} {', '.join(same)}")


def _says_something(value: Any) -> bool:
    """A table's cell may spell an empty list as JSON."""
    if isinstance(value, str):
        return value.strip().lower() not in _BARE
    return is_set(value)


def _says_good_or_bad(value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return value in (0, 1)
    return isinstance(value, str) and value.strip().lower() in _GOOD_OR_BAD
