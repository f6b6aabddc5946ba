"""A curve as text, in Braille dots: two across and four down to a character. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_BLANK = 0x2800
# Bit of the dot at (column, row) within a character, as Unicode numbers them.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def chart(points: Sequence[tuple[float, float]], width: int = 60, height: int = 8) -> list[str]:
    """Lines of a chart of (x, y) points in order of x, with the y axis before it.

    `width` and `height` are in characters. No points give no lines.
    """
    if not points:
        return []
    low, high = min(y for _, y in points), max(y for _, y in points)
    cells = [[_BLANK] * width for _ in range(height)]
    for column, y in enumerate(_columns(points, width * 2)):
        share = (y - low) / (high - low) if high > low else 0.0
        row = round((1 - share) * (height * 4 - 1))
        cells[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    labels = [f"{high:.3g}", *[""] * (height - 2), f"{low:.3g}"][:height]
    size = max(map(len, labels))
    lines = [
        f"{label:>{size}} ┤{''.join(map(chr, row))}".rstrip("\u2800")
        for label, row in zip(labels, cells, strict=True)
    ]
    return [*lines, *_axis(points, size, width)]


def _columns(points: Sequence[tuple[float, float]], count: int) -> list[float]:
    """y at `count` places evenly between the first and the last x, on straight lines."""
    first, last = points[0][0], points[-1][0]
    found, at = [], 0
    for index in range(count):
        x = first + (last - first) * index / max(count - 1, 1)
        while at < len(points) - 2 and points[at + 1][0] < x:
            at += 1
        found.append(_between(points[at], points[min(at + 1, len(points) - 1)], x))
    return found


def _between(left: tuple[float, float], right: tuple[float, float], x: float) -> float:
    if right[0] <= left[0]:
        return right[1]
    share = min(max((x - left[0]) / (right[0] - left[0]), 0.0), 1.0)
    return left[1] + share * (right[1] - left[1])


def _axis(points: Sequence[tuple[float, float]], indent: int, width: int) -> list[str]:
    first, last = f"step {points[0][0]:.0f}", f"{points[-1][0]:.0f}"
    room = max(width - len(first), len(last) + 1)
    return [f"{'':>{indent}} └{'─' * width}", f"{'':>{indent}}  {first}{last:>{room}}"]
