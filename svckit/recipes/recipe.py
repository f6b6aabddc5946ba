"""A checked recipe, as others use it. Pure data; reading one is in reading.py."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from svckit.recipes.spec_paths import covers, with_value

# What stands in for a field that only the caller can give, while the rest is checked.
_STAND_INS: Mapping[str, object] = MappingProxyType(
    {"model.name": "stand/in", "train_data": [{"source": "stand/in"}], "output_dir": "stand-in"}
)


@dataclass(frozen=True, slots=True)
class Range:
    """What a caller may give for a field; None: whatever the spec allows."""

    minimum: float | None = None
    maximum: float | None = None

    def has(self, value: float) -> bool:
        """Whether the value lies in it, ends included. NaN never does."""
        above = self.minimum is None or value >= self.minimum
        below = self.maximum is None or value <= self.maximum
        return above and below and not math.isnan(value)

    def __str__(self) -> str:
        if self.minimum is not None and self.maximum is not None:
            return f"{self.minimum} to {self.maximum}"
        if self.minimum is not None:
            return f"at least {self.minimum}"
        return "whatever the spec allows" if self.maximum is None else f"at most {self.maximum}"


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. All mappings go by the model's names of fields."""

    description: str
    required: tuple[str, ...]
    overridable: Mapping[str, Range]
    values: Mapping[str, Any]
    """What it says of the spec, and no default."""
    patterns: Mapping[str, Mapping[str, Any]]
    """By data part ("train_data"): what sources of a caller's get where they say nothing."""
    shown: Mapping[str, Any]
    """The spec with every default, but without the required fields."""

    def range_of(self, path: str) -> Range | None:
        """What a caller may give there; None if nothing. The nearest name counts."""
        named = [one for one in self.overridable if covers(one, path)]
        return self.overridable[max(named, key=len)] if named else None


def stand_ins(required: Sequence[str]) -> dict[str, Any]:
    """Values with which a spec can be checked that lacks these fields."""
    made: dict[str, Any] = {}
    for path, value in _STAND_INS.items():
        if any(covers(one, path) for one in required):
            made = with_value(made, path, value)
    return made
