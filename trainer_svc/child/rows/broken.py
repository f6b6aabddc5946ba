"""What is wrong with a row, and the words for what was found in it.

Owns the exception that every reader of rows raises. Refuses nothing.
"""

from collections.abc import Mapping
from typing import Any


class RowBroken(Exception):
    """The row is not of its format; the message says what is wrong with it, and `hint`, where
    there is one, what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    type(None): "nothing",
}


def kind_of(value: Any) -> str:
    """The kind of a JSON value, in words."""
    return KINDS.get(type(value), type(value).__name__)


def is_set(value: Any) -> bool:
    """Whether a field says anything: not when it is null, or an empty string, list or object."""
    return value is not None and value != "" and value != [] and value != {}
