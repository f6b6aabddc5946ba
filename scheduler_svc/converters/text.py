"""What a trainer says, made fit for a database: bounded, and without U+0000.

A report is never refused for the text in it: an odd character in an exception's
message must not lose the end of a run.
"""

import math

LINE_CHARACTERS_MAX = 256
_REPLACEMENT = "\ufffd"


def line(text: str) -> str:
    """A name, a version, a path: 256 characters at most."""
    return lines(text, LINE_CHARACTERS_MAX)


def lines(text: str, characters_max: int) -> str:
    """A longer text, cut where it is too long."""
    clean = text.replace("\0", _REPLACEMENT)
    return clean if len(clean) <= characters_max else clean[: characters_max - 1] + "…"


def finite(number: float) -> float | None:
    """The number, or None where it is NaN or infinite: those are said by a failure's cause."""
    return number if math.isfinite(number) else None
