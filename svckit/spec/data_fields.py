"""The fields that a row of each data format may have.

Owns the names that a source's `columns` may map, and the rules for that
mapping. Pure. What a field means is the trainer's to say; it reads its names
from here, so that both know the same.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from svckit.spec.enums import DataFormat
from svckit.spec.text_rules import without_control_characters

COLUMNS_MAX = 16
COLUMN_CHARACTERS_MAX = 128

_PICTURES = frozenset({"images", "image"})
FIELDS_OF: Mapping[DataFormat, frozenset[str]] = MappingProxyType(
    {
        DataFormat.MESSAGES: frozenset({"messages", "system"}) | _PICTURES,
        DataFormat.LCCC: frozenset({"dialog"}) | _PICTURES,
        DataFormat.ALPACA: frozenset({"instruction", "input", "output", "system", "history"})
        | _PICTURES,
        DataFormat.SHAREGPT: frozenset({"conversations", "conversation", "system"}) | _PICTURES,
        DataFormat.PROMPT_COMPLETION: frozenset({"prompt", "completion", "system"}) | _PICTURES,
        DataFormat.TEXT: frozenset({"text"}) | _PICTURES,
    }
)
"""By format; DataFormat.UNSPECIFIED has none of its own."""
FIELDS = frozenset[str]().union(*FIELDS_OF.values())
"""Every field that means something in a row of some format."""


def columns(mapping: Mapping[str, str], data_format: DataFormat) -> dict[str, str]:
    """The mapping itself. Raises ValueError for one that no source can have."""
    if len(mapping) > COLUMNS_MAX:
        raise ValueError(f"must have at most {COLUMNS_MAX} entries; it has {len(mapping)}")
    known = FIELDS_OF.get(data_format, FIELDS)
    for name, own in mapping.items():
        if name not in known:
            raise ValueError(_unknown(name, known, data_format))
        if not own or len(own) > COLUMN_CHARACTERS_MAX:
            raise ValueError(
                f"the column for '{name}' must have 1 to {COLUMN_CHARACTERS_MAX} characters;"
                f" it has {len(own)}"
            )
        without_control_characters(own)
    owns = list(mapping.values())
    twice = next((own for own in owns if owns.count(own) > 1), None)
    if twice is not None:
        raise ValueError(f"must give each column to one field only; {twice[:40]!r} has several")
    return dict(mapping)


def _unknown(name: str, known: frozenset[str], data_format: DataFormat) -> str:
    of = "any format" if data_format is DataFormat.UNSPECIFIED else data_format.short_name
    close = difflib.get_close_matches(name, sorted(known), n=1)
    meant = f"did you mean '{close[0]}'?" if close else f"its fields are {', '.join(sorted(known))}"
    return f"{name[:40]!r} is not a field of {of}; {meant}"
