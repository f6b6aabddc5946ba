"""As ms-swift: arguments from a command line, the unknown ones given back."""

from __future__ import annotations

from typing import Any


def parse_args(kind: type[Any], argv: list[str]) -> tuple[Any, list[str]]:
    """The arguments, and nothing left over."""
    return kind(options(argv)), []


def options(argv: list[str]) -> dict[str, list[str]]:
    """The words after each flag."""
    found: dict[str, list[str]] = {}
    for word in argv:
        if word.startswith("--"):
            name = word[2:]
            found[name] = []
        else:
            found[name].append(word)
    return found
