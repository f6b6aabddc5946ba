"""Which texts may stand in a spec: folders, models, data sets, GPU indices.

Owns the rules that can be judged without a disk. Whether a file exists, or a
link leads out of a root, only the trainer can tell. Each rule raises
ValueError with the one sentence that the caller will read.
"""

import re
import unicodedata
from pathlib import PurePosixPath

from tunewright.wire import names

OUTPUT_DIR_BYTES_MAX = 1024
COMPONENT_BYTES_MAX = 255
"""NAME_MAX of every file system that this runs on."""

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_SAMPLES = re.compile(r"(?P<place>.*)#(?P<count>[^/#]*)", re.DOTALL)
_FILE_NAME_END = re.compile(r"[^/#]*\.[A-Za-z][^/#]*")
_SAMPLE_COUNT = re.compile(r"[1-9][0-9]{0,11}")
_DATA_FILE_SUFFIXES = (
    ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst", ".bz2"
)  # fmt: skip


def without_control_characters(text: str) -> str:
    """`text` itself, if it is one printable line."""
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(
                f"must not contain control characters; U+{ord(character):04X} at position {place}"
            )
    return text


def without_nul(text: str) -> str:
    """`text` itself, if a database and a file can hold it; line ends are fine."""
    for place, character in enumerate(text):
        if character == "\0" or unicodedata.category(character) == "Cs":
            raise ValueError(f"must not contain U+{ord(character):04X}, as at position {place}")
    return text


def output_dir(text: str) -> str:
    """The folder in its one spelling ("a/b"), relative to the output root.

    Trailing slashes go; everything that could lead elsewhere is refused.
    """
    if not text:
        raise ValueError("is required")
    without_control_characters(text)
    if len(text.encode()) > OUTPUT_DIR_BYTES_MAX:
        raise ValueError(
            f"must be at most {OUTPUT_DIR_BYTES_MAX} bytes long; it has {len(text.encode())}"
        )
    if text.startswith("/"):
        raise ValueError("must be relative to the output root, not an absolute path")
    if "\\" in text:
        raise ValueError("must not contain a backslash")
    components = text.rstrip("/").split("/")
    for component in components:
        _check_component(component)
    return "/".join(components)


def _check_component(component: str) -> None:
    if not component:
        raise ValueError("must not contain an empty component ('//')")
    if component == "..":
        raise ValueError("must not contain '..'")
    if component == ".":
        raise ValueError("must not contain '.' as a component")
    if component.startswith("."):
        raise ValueError(
            f"must not contain hidden folders: {component[:40]!r} starts with a dot, "
            "and such names are reserved"
        )
    length = len(component.encode())
    if length > COMPONENT_BYTES_MAX:
        raise ValueError(
            f"each component must be at most {COMPONENT_BYTES_MAX} bytes long; "
            f"{component[:20]!r}... has {length}"
        )


def model_name(text: str) -> str:
    """A hub id ("Qwen/Qwen3-0.6B") or an absolute folder."""
    if not text:
        raise ValueError("is required")
    without_control_characters(text)
    if text.startswith("/"):
        return _absolute(text)
    if not _HUB_ID.fullmatch(text) or ".." in text:
        raise ValueError(
            "must be a hub id ('org/name') or an absolute path; a relative path means nothing "
            "on the trainer's host (the command line makes paths absolute)"
        )
    return text


def data_source(text: str) -> str:
    """An absolute file or a hub id, each with an optional "#N" (N >= 1)."""
    if not text:
        raise ValueError("is required")
    without_control_characters(text)
    place, count = split_samples(text)
    suffix = "" if count is None else f"#{count}"
    if place.startswith("/"):
        return _absolute(place) + suffix
    looks_like_a_file = place.lower().endswith(_DATA_FILE_SUFFIXES)
    if looks_like_a_file or not _HUB_ID.fullmatch(place) or ".." in place:
        raise ValueError(
            "must be an absolute path or a hub id ('org/name'); a relative path means nothing "
            "on the trainer's host (the command line makes paths absolute)"
        )
    return text


def split_samples(text: str) -> tuple[str, int | None]:
    """("a.json", 500) of "a.json#500"; None when all samples are meant.

    A "#" in a file's name ("a#b.json") is left to the name: a number has no letters after a dot.
    Raises ValueError when what follows "#" is not a whole number from 1 on.
    """
    match = _SAMPLES.fullmatch(text)
    if match is None or (_FILE_NAME_END.fullmatch(match["count"]) and text.startswith("/")):
        return text, None
    if not _SAMPLE_COUNT.fullmatch(match["count"]):
        raise ValueError(
            f"after '#' there must be a whole number of samples from 1 on; got '#{match['count']}'"
        )
    return match["place"], int(match["count"])


def _absolute(text: str) -> str:
    if ".." in PurePosixPath(text).parts:
        raise ValueError("must not contain '..'")
    return str(PurePosixPath("/" + text.strip("/")))


def swift_name(text: str) -> str:
    """A name out of ms-swift's own lists ("llava1_5_hf"), or empty."""
    if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ValueError(f"must be one of ms-swift's names, like 'qwen3'; got {text[:40]!r}")
    return text


def argument(text: str) -> str:
    """A text that a command takes as a value: one line, and no flag."""
    if text.startswith("-"):
        raise ValueError("must not begin with '-': it would be read as a flag")
    return without_control_characters(text)


def gpu_id(text: str) -> str:
    """An index as nvidia-smi counts ("0"), in its one spelling."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,3}", text):
        raise ValueError(f"must be a GPU index like '0', in digits; got {text[:40]!r}")
    return text


def trainer_name(text: str) -> str:
    """ "trainers/{trainer}", or empty for any."""
    if text:
        names.trainer_id(text)
    return text
