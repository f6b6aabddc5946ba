"""Values as people type them: sizes, durations, labels, settings, paths.

Pure but for looking whether a path exists. Refuses with CommandError, naming the option.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor

from tunewright.cli.exits import CommandError
from tunewright.fields import enum_short_name, from_text
from tunewright.v1 import job_pb2, spec_pb2
from tunewright.wire.meant import did_you_mean

_BYTES = {
    "b": 1,
    "k": 2**10, "kib": 2**10, "kb": 10**3,
    "m": 2**20, "mib": 2**20, "mb": 10**6,
    "g": 2**30, "gib": 2**30, "gb": 10**9,
    "t": 2**40, "tib": 2**40, "tb": 10**12,
}  # fmt: skip
_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_VALUE_AT_END = re.compile(
    r"(?P<place>.+),\s*(?P<name>[A-Za-z_][\w.-]*)=(?P<value>[^,]*)", re.DOTALL
)
_OF_A_SOURCE = ("format", "split")
# The fields of all formats: what a data set may call them by another name.
_FIELDS = (
    "messages",
    "conversations",
    "conversation",
    "dialog",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "prompt",
    "completion",
    "text",
    "images",
    "image",
)
_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def size_bytes(text: str, option: str) -> int:
    """Bytes of "24GiB", "24G" (the same) or "24GB" (decimal). A plain number is refused.

    Whoever types 24 means GiB, and would get 24 bytes: no limit at all.
    """
    bare = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if bare and not bare[2]:
        raise CommandError(f"{option}: {bare[1]} needs a unit, as in {bare[1]}GiB")
    return int(_measured(text, _BYTES, f"{option}: expected a size like 24GiB"))


def seconds(text: str, option: str) -> float:
    """Seconds of "90", "90s", "15m", "2h" or "1d"."""
    return _measured(text, _SECONDS, f"{option}: expected a time like 90s, 15m or 2h")


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """The names and values of "name=value" strings; a name given twice is refused."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise CommandError(f"{option}: expected name=value, got {text!r}")
        if name.strip() in found:
            raise CommandError(f"{option}: {name.strip()} is given twice; give it once")
        found[name.strip()] = value.strip()
    return found


def hyperparameters(texts: Iterable[str]) -> dict[str, Any]:
    """Settings as values of their fields' types; what is unknown stays text: the SDK tells."""
    return _typed(spec_pb2.Hyperparameters.DESCRIPTOR, pairs(texts, "--set"))


def swift_options(texts: Iterable[str]) -> dict[str, Any]:
    """The same for what only ms-swift knows."""
    return _typed(spec_pb2.SwiftOptions.DESCRIPTOR, pairs(texts, "--swift"))


def filter_with_states(text: str, states: Iterable[str]) -> str:
    """A filter for jobs that are in one of these states and match the filter too."""
    names = [_state(state) for state in states]
    if not names:
        return text
    alternatives = " OR ".join(f"state = {name}" for name in names)
    if not text.strip():
        return alternatives
    return f"({alternatives}) AND ({text})"


def _state(text: str) -> str:
    """ "RUNNING" of "running"; a CommandError names the states there are."""
    kind = job_pb2.JobState.DESCRIPTOR
    known = [enum_short_name(kind, value.number) for value in kind.values[1:]]
    wanted = text.upper().removeprefix("JOB_STATE_")
    if wanted not in known:
        names = ", ".join(name.lower() for name in known)
        raise CommandError(f"--state: expected one of {names}; got {text!r:.80}")
    return wanted


def source(text: str) -> str:
    """A path that exists here, absolute; "#N" stays behind it; anything else as it is.

    The trainer resolves paths, and it was started in another folder.
    """
    path, mark, count = text.rpartition("#")
    if not (mark and count.isdecimal()):
        path, mark, count = text, "", ""
    looks_like_path = path.startswith(("./", "../", "~"))
    expanded = Path(path).expanduser()
    if path and (looks_like_path or expanded.exists()):
        # Links are not followed: whether one may be is the trainer's to say.
        return f"{os.path.abspath(expanded)}{mark}{count}"
    return text


def data_source(text: str, option: str) -> dict[str, Any]:
    """A data set as it is typed: "FILE#500,split=test,format=alpaca,instruction=question".

    After the file or hub id, with its "#N", come its own values: format, split, and what
    its fields are called. A file with such an ending in its name is taken as it is.
    """
    place, values = _parted(text)
    found: dict[str, Any] = {"source": source(place)}
    columns: dict[str, str] = {}
    for name, value in values:
        if name in found or name in columns:
            raise CommandError(f"{option}: {name!r} is given twice in {text!r}")
        if not value:
            raise CommandError(f"{option}: {name!r} has no value in {text!r}")
        if name in _OF_A_SOURCE:
            found[name] = value
        elif name in _FIELDS:
            columns[name] = value
        else:
            raise CommandError(f"{option}: {_unknown_value(name)} (in {text!r})")
    return {**found, "columns": columns} if columns else found


def _parted(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The file or hub id, and the values after it."""
    place, values = text, []
    while not _exists(place) and (match := _VALUE_AT_END.fullmatch(place)):
        place = match["place"]
        values.append((match["name"], match["value"].strip()))
    return place, values[::-1]


def _exists(text: str) -> bool:
    """Whether a file has this name, with or without a "#N"."""
    path, mark, count = text.rpartition("#")
    names = [text, path] if mark and count.isdecimal() else [text]
    return any(name and Path(name).expanduser().exists() for name in names)


def _unknown_value(name: str) -> str:
    meant = did_you_mean(name, (*_OF_A_SOURCE, *_FIELDS))
    known = f"did you mean {meant!r}?" if meant else f"known: {', '.join(_OF_A_SOURCE + _FIELDS)}"
    return f"unknown value {name!r} of a data set; {known}"


def new_output_dir(model: str, now: datetime) -> str:
    """A folder name that nobody has: the model's name, the time, four random digits."""
    stem = re.sub(r"[^a-z0-9.-]+", "-", Path(model).name.lower()).strip("-.") or "job"
    return f"{stem[:60]}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _typed(kind: Descriptor, texts: dict[str, str]) -> dict[str, Any]:
    fields = kind.fields_by_name
    return {
        name: from_text(fields[name], value) if name in fields else value
        for name, value in texts.items()
    }


def _measured(text: str, units: dict[str, int], expected: str) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        raise CommandError(f"{expected}, got {text!r}")
    return float(match[1]) * units[unit]
