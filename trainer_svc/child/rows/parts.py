"""A content that is a list of parts, as OpenAI, Hugging Face and LLaMA-Factory write it.

Owns how parts become one text with a mark for each picture. Texts follow each
other with nothing between them, as chat templates render them. Refuses parts of
unknown types and of wrong types (RowBroken), and those of tools, videos and
sounds (RowRefused).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer_svc.child.rows.broken import RowBroken, is_set, kind_of
from trainer_svc.child.rows.notes import Notes
from trainer_svc.child.rows.refusals import MEDIA, MEDIA_PARTS, TOOL_PARTS, TOOLS, RowRefused

MARK = "<image>"
"""Stands in a content where a picture is."""
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
PICTURE_PARTS = frozenset({"image", "image_url", "input_image"})
THOUGHT_PARTS = frozenset({"reasoning", "reasoning_content", "thinking", "thought"})
TEXT_KEYS = ("text", "value", "content")
PICTURE_KEYS = ("image", "image_url", "url", "path", "value", "bytes")
THOUGHT_KEYS = (*THOUGHT_PARTS, *TEXT_KEYS)


@dataclass
class Joined:
    """A content put together."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)


def join_parts(parts: list[Any], place: str, key: str, notes: Notes) -> Joined:
    """Puts the parts together. `place` says which message it is, `key` is the receipt's name of
    a part ("messages[].content[]"). Raises RowBroken, RowRefused."""
    joined = Joined()
    for number, part in enumerate(parts, start=1):
        if isinstance(part, str):
            joined.texts.append(part)
        elif isinstance(part, Mapping):
            _add(joined, part, f"{place}, part {number}", key, notes)
        else:
            raise RowBroken(f"{place}, part {number}: expected an object, found {kind_of(part)}")
    return joined


def _add(joined: Joined, part: Mapping[str, Any], place: str, key: str, notes: Notes) -> None:
    kind = part.get("type") or ("text" if part.get("text") is not None else None)
    if kind in TOOL_PARTS:
        raise RowRefused(TOOLS, f'{place}: the type "{kind}"')
    if kind in MEDIA_PARTS:
        raise RowRefused(MEDIA, f'{place}: the type "{kind}"')
    if kind in TEXT_PARTS:
        used = _text(joined.texts, part, TEXT_KEYS, place)
    elif kind in PICTURE_PARTS:
        used = _picture(part, place, notes)
        joined.texts.append(MARK)
    elif kind in THOUGHT_PARTS:
        used = _text(joined.thoughts, part, THOUGHT_KEYS, place)
    else:
        known = ", ".join(sorted(TEXT_PARTS | PICTURE_PARTS | THOUGHT_PARTS))
        raise RowBroken(f"{place}: unknown type {kind!r:.80}; known: {known}")
    notes.ignored.update(
        f"{key}.{name}" for name, value in part.items() if name not in used and is_set(value)
    )


def _text(texts: list[str], part: Mapping[str, Any], keys: tuple[str, ...], place: str) -> set[str]:
    """Adds the text of a part; the keys that were used."""
    name = next((name for name in keys if part.get(name) is not None), keys[0])
    value = part.get(name)
    if not isinstance(value, str):
        raise RowBroken(f'{place}: expected "{name}" with a string, found {kind_of(value)}')
    texts.append(value)
    return {"type", name}


def _picture(part: Mapping[str, Any], place: str, notes: Notes) -> set[str]:
    """Notes the picture of a part. One that says nothing of where it is stands for the next one
    of the row's "images"."""
    name = next((name for name in PICTURE_KEYS if is_set(part.get(name))), "")
    if not name:
        return {"type"}
    value = part[name]
    if name == "bytes" or isinstance(value, bytes):
        value = {"bytes": value}
    elif isinstance(value, Mapping) and is_set(value.get("url")):
        value = value["url"]
    if not isinstance(value, str | Mapping):
        raise RowBroken(f'{place}: expected "{name}" with a path, found {kind_of(value)}')
    notes.pictures.append(value)
    return {"type", name}
