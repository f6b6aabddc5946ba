"""What ms-swift prints: lines, bars that are redrawn, and what they tell.

Owns the cutting of raw output into lines, and the table of signs: which line
means which phase. Pure. A sign is only ever used to tell somebody how far a run
is, and to know of a checkpoint; how a run ended is never read from here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

# As tqdm draws it, perhaps with a line of the log right behind it.
_BAR = re.compile(
    r"(?P<what>[^|\r\n]*?):? *\d+%\|[^|]*\| *(?P<done>[\d.]+\w?)/(?P<total>[\d.]+\w?) \[[^\]]*\]"
)
REDRAWN_EVERY_SECONDS = 5.0
LINE_BYTES_MAX = 1 << 20
# ms-swift prints a row of the data too: nothing longer than its own words is searched.
SIGN_CHARS_MAX = 1024


@dataclass(frozen=True)
class Line:
    """A piece of output. `redrawn`: a bar that the next one replaces."""

    text: str
    redrawn: bool = False


class LineCutter:
    """Cuts output into lines as it comes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Line]:
        """The lines that are whole now."""
        *whole, self._rest = re.split(rb"(?<=[\r\n])", self._rest + data)
        if len(self._rest) > LINE_BYTES_MAX:
            whole, self._rest = [*whole, self._rest], b""
        return [line for piece in whole for line in _lines(piece)]

    @property
    def drawn(self) -> str:
        """What stands in the last line, still to be redrawn or ended."""
        return self._rest.decode("utf-8", errors="replace")

    def close(self) -> list[Line]:
        """What is left when nothing more comes."""
        rest, self._rest = self._rest, b""
        return list(_lines(rest))


def _lines(piece: bytes) -> Iterator[Line]:
    text = piece.decode("utf-8", errors="replace")
    text = text.rstrip("\r\n")
    bar = _bar(text)
    if bar is not None:
        yield Line(bar.group(), redrawn=True)
        text = text[bar.end() :]
    if text.strip():
        yield Line(text)


def _bar(text: str) -> re.Match[str] | None:
    """The bar that a line begins with. What cannot hold one is not searched: runs of spaces and
    digits take long."""
    start = text[:SIGN_CHARS_MAX]
    return _BAR.match(start) if "%|" in start else None


class Thinned:
    """Lets every line through, but redrawn bars only now and then, and once at their end."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, bool]] = {}

    def keeps(self, line: Line, now: float) -> bool:
        """Whether to pass `line` on; `now` in seconds."""
        bar = _bar(line.text) if line.redrawn else None
        if bar is None:
            return True
        what, ended = bar["what"], bar["done"] == bar["total"]
        last, had_ended = self._last.get(what, (float("-inf"), False))
        if ended == had_ended and now - last < REDRAWN_EVERY_SECONDS:
            return False
        self._last[what] = (now, ended)
        return True


class Stage(Enum):
    """What ms-swift is doing, or has done."""

    DOWNLOADING = auto()
    LOADING_MODEL = auto()
    TOKENISING = auto()
    MODEL_LOADED = auto()
    TRAINING = auto()
    CHECKPOINT_WRITTEN = auto()


@dataclass(frozen=True)
class Sign:
    """What a line tells. `done` of `total`, as printed: steps, files, "1.2G". It may stand in
    the row of the data that is printed; who uses it holds it against what else is known."""

    stage: Stage
    what: str = ""
    done: str = ""
    total: str = ""


# The first row that matches wins. A bar's row names what it counts.
_BARS: Sequence[tuple[re.Pattern[str], Stage]] = (
    (re.compile(r"^Train$"), Stage.TRAINING),
    (re.compile(r"^Loading (checkpoint shards|weights)"), Stage.LOADING_MODEL),
    (re.compile(r"^(Map|Filter|Packing|Tokenizing)\b"), Stage.TOKENISING),
    (re.compile(r"^(Downloading|Fetching)\b|\.(safetensors|bin|json|model)$"), Stage.DOWNLOADING),
)
_LINES: Sequence[tuple[re.Pattern[str], Stage]] = (
    (
        # transformers says the same before it writes.
        re.compile(
            r"\[INFO:swift\] Saving model checkpoint to (?P<what>.*checkpoint-(?P<done>\d+))\s*$"
        ),
        Stage.CHECKPOINT_WRITTEN,
    ),
    (
        re.compile(
            r"model_parameter_info: .*?(?P<total>[\d.]+)M Params \((?P<done>[\d.]+)M Trainable"
        ),
        Stage.MODEL_LOADED,
    ),
    (re.compile(r"Downloading Model from (?P<what>\S+)"), Stage.DOWNLOADING),
    (re.compile(r"\] model_kwargs: "), Stage.LOADING_MODEL),
)


def sign_of(text: str) -> Sign | None:
    """What a line or a bar tells; None if nothing."""
    if len(text) > SIGN_CHARS_MAX:
        return None
    bar = _bar(text)
    if bar is not None:
        what = bar["what"].strip()
        for pattern, stage in _BARS:
            if pattern.search(what):
                return Sign(stage, what, bar["done"], bar["total"])
        return None
    for pattern, stage in _LINES:
        found = pattern.search(text)
        if found is not None:
            return Sign(stage, **found.groupdict())
    return None
