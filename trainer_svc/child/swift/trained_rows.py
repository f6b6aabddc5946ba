"""A checked row as ms-swift is given it.

Owns the last step: thoughts between the marks of ms-swift's template, and a
"loss" in every answer of a file that has one. Pure. Finds texts that ms-swift
would take for a picture to open; whether the row is refused is the caller's to say.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainer_svc.child.checked_rows import CheckedPart

# As ms-swift finds it: it opens whatever file stands between, and puts the picture there.
_PICTURE_TAG = re.compile(r"<img>(.+?)</img>")
PICTURE_IN_TEXT = "<img>...</img> would be opened as a file; give pictures in images"


def names_a_picture(row: Mapping[str, Any]) -> bool:
    """Whether a text names a picture past the check that pictures lie inside the roots."""
    if row.get("images"):
        return False
    texts = (f"{one.get('reasoning_content', '')}|{one['content']}" for one in row["messages"])
    return any(map(_PICTURE_TAG.search, texts))


def as_trained(
    row: dict[str, Any], part: CheckedPart, thought_marks: Sequence[str] | None
) -> dict[str, Any]:
    """A row as it stands in the file that ms-swift trains from: thoughts between the template's
    marks. The library that reads the file takes the keys of messages from the first rows, so
    "loss" stands in all answers where it stands in any."""
    messages = []
    for message in row["messages"]:
        written = {"role": message["role"], "content": with_thought(message, thought_marks)}
        if part.first_unlearnt and message["role"] == "assistant":
            written["loss"] = message.get("loss", True)
        messages.append(written)
    return {**row, "messages": messages}


def with_thought(message: Mapping[str, Any], marks: Sequence[str] | None) -> str:
    """The content of a message, its thought before it; as in inside/prepass.py."""
    thought, content = message.get("reasoning_content"), str(message["content"])
    if not thought or marks is None:
        return content
    begin, end = marks
    return f"{begin}{thought}{end}{content}"
