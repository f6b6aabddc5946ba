"""What a job says about one source: how it is to be read.

Owns what it means where the job says nothing. Refuses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer_svc.child.rows.formats import RowFormat


@dataclass(frozen=True)
class Asked:
    """`split` is the part asked for, "" for `default_split`, where the source has parts at all.
    Without `row_format` it is found from the first row; `columns` maps fields of the format to
    the source's own names."""

    split: str = ""
    default_split: str = "train"
    row_format: RowFormat | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """The part to read."""
        return self.split or self.default_split
