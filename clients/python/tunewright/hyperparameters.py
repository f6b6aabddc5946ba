"""The hyperparameters of a job: type, range, default and meaning of each, for people.

Generated from the contract and from the server's own rules of this version
(scripts/generate_hyperparameters.py). The scheduler judges values; nothing is
judged here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

_TYPE_WORDS: Mapping[str, str] = {
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "string": "string",
    "strings": "strings, comma separated",
}


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter, by its Hugging Face, TRL or PEFT name.

    `record` has the same as plain values: "minimum" and "maximum" belong to the
    range, "above" and "below" do not.
    """

    name: str
    description: str
    backends: Sequence[str]
    record: Mapping[str, Any]

    @property
    def type_text(self) -> str:
        """ "whole number"."""
        return _TYPE_WORDS[self.record["type"]]

    @property
    def range_text(self) -> str:
        """ "1 to 4096", "above 0, at most 10", or the choices; empty where there is no bound."""
        if "choices" in self.record:
            return ", ".join(self.record["choices"])
        low, high = self.record.get("minimum"), self.record.get("maximum")
        if low is not None and high is not None:
            return f"{low} to {high}"
        words = {"minimum": "at least", "above": "above", "maximum": "at most", "below": "below"}
        return ", ".join(
            f"{say} {self.record[key]}" for key, say in words.items() if key in self.record
        )

    @property
    def default_text(self) -> str:
        """The default as it is typed, or in words where it depends on something else."""
        default = self.record["default"]
        if default is None:
            return str(self.record["default_text"])
        if isinstance(default, bool):
            return "true" if default else "false"
        if isinstance(default, list):
            return ",".join(default)
        return f"{default:g}" if isinstance(default, float) else str(default)


@cache
def hyperparameters() -> Mapping[str, Hyperparameter]:
    """All of them by name, in the order of the contract."""
    text = files("tunewright").joinpath("hyperparameters.json").read_text(encoding="utf-8")
    found = {
        row["name"]: Hyperparameter(
            row["name"], row["description"], tuple(row["backends"]), MappingProxyType(row)
        )
        for row in json.loads(text)
    }
    return MappingProxyType(found)
