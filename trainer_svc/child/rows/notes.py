"""What a row has beside the text of its turns.

Owns what is noted while a row is read: the keys that were not used, the
pictures that stand in contents. Refuses nothing.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Notes:
    """Notes on one row."""

    ignored: set[str] = field(default_factory=set)
    """Keys that have a value and were not used, as the receipt names them."""
    pictures: list[Any] = field(default_factory=list)
    """What stands in the contents as pictures, in their order."""
    asks_to_learn: str = ""
    """The first turn that is not the assistant's and has a weight of 1, in words."""
