"""The formats that rows are written in, and how one is told from another.

Owns which fields make a format. Field names are those that Hugging Face, TRL,
LLaMA-Factory and ms-swift read. Pure. Refuses nothing.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum

from svckit.spec.data_fields import FIELDS, FIELDS_OF
from svckit.spec.enums import DataFormat


class RowFormat(StrEnum):
    """How the rows of a data set are written."""

    MESSAGES = "messages"
    LCCC = "lccc"
    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"
    PROMPT_COMPLETION = "prompt_completion"
    TEXT = "text"


USED: Mapping[RowFormat, frozenset[str]] = {
    form: FIELDS_OF[DataFormat.parse(form.value)] for form in RowFormat
}
"""The fields that are read of a row of each format."""

# In this order, for a row may have the fields of several: that of Stanford's Alpaca has a
# "text" made of the others.
FORMAT_FIELDS: tuple[tuple[tuple[str, ...], RowFormat], ...] = (
    (("messages",), RowFormat.MESSAGES),
    (("conversations",), RowFormat.SHAREGPT),
    (("conversation",), RowFormat.SHAREGPT),
    (("dialog",), RowFormat.LCCC),
    (("instruction", "output"), RowFormat.ALPACA),
    (("prompt", "completion"), RowFormat.PROMPT_COMPLETION),
    (("text",), RowFormat.TEXT),
)

__all__ = ["FIELDS", "FORMAT_FIELDS", "USED", "RowFormat", "format_of_fields", "known_fields"]


def format_of_fields(names: Collection[str], only: RowFormat | None = None) -> RowFormat | None:
    """The format of rows with fields of these names; None when there is none. `only`: that one
    or none."""
    found = (
        form
        for fields, form in FORMAT_FIELDS
        if only in (None, form) and all(field in names for field in fields)
    )
    return next(found, None)


def known_fields() -> str:
    """What a row must have, in words."""
    return "one of the keys " + ", ".join(
        " and ".join(f'"{name}"' for name in fields) for fields, _ in FORMAT_FIELDS
    )
