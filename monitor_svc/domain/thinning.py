"""Thinning a series to what fits a chart.

The series is cut into buckets of equal count, and each keeps its least and its
greatest point, as in M4 (Jugel, Jerzak, Hackenbroich, Markl: "M4: A
Visualization-Oriented Time Series Data Aggregation", VLDB 2014); the first and
the last point of the whole are kept as well, so no spike is lost. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[int, float]


def thin(points: Sequence[Point], points_max: int) -> list[Point]:
    """At most `points_max` (2 or more) of `points`, in their order.

    First and last are always among them, and from 4 on the least and the
    greatest finite value too. NaN and infinities are kept only as first or
    last, or where nothing is left out.
    """
    if len(points) <= points_max:
        return list(points)
    inner = range(1, len(points) - 1)
    chosen = {0, len(points) - 1}
    buckets = (points_max - 2) // 2
    for number in range(buckets):
        start = inner.start + number * len(inner) // buckets
        stop = inner.start + (number + 1) * len(inner) // buckets
        finite = [index for index in range(start, stop) if math.isfinite(points[index][1])]
        if finite:
            chosen.add(min(finite, key=lambda index: points[index][1]))
            chosen.add(max(finite, key=lambda index: points[index][1]))
    return [points[index] for index in sorted(chosen)]
