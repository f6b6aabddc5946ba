"""What is made of the problems and rows that the preparation of data finds.

Owns the seam between a run and a data check: both go through the same
preparation, and only what is done about a finding differs. A run fails at the
first refusal and counts everything else; this class does that. A data check
(data_check/findings.py) notes all of it and continues.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer_svc.child.failure import RunFailed
from trainer_svc.child.receipts import Tally
from trainer_svc.child.swift.inside.row_segments import Segment

IGNORED = -100
"""The label of a token without loss."""


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A row as training gets it. `length` is its number of tokens before it was cut. Ids and
    labels are there only where the row is to be shown; where another program encodes it, they
    stay there, and `segments` come instead."""

    place: str
    tokens: int
    supervised_tokens: int
    truncated: bool
    length: int
    input_ids: Sequence[int] = ()
    labels: Sequence[int] = ()
    segments: Sequence[Segment] = ()


class Inspection:
    """A run's: nothing is looked at, and the first refusal ends it."""

    rows_shown = 0
    """Rows to show of each source; a preparation in another process must know beforehand."""

    def refuse(self, failure: RunFailed) -> None:
        """A run fails with `failure`."""
        raise failure

    def attempt(self, check: Callable[[], None]) -> None:
        """Does `check`, and refuses what it raises as RunFailed."""
        try:
            check()
        except RunFailed as failure:
            self.refuse(failure)

    def refuse_row(self, failure: RunFailed) -> None:
        """A run fails with `failure`, which is about one row; a check drops the row next."""
        raise failure

    def shows(self, tally: Tally) -> bool:
        """Whether the next row of this source that is kept is wanted with its ids and labels."""
        return False

    def read(self, tally: Tally) -> None:
        """A row has been read, and is in the tally."""

    def drop(self, tally: Tally, reason: str, place: str, why: str = "", length: int = 0) -> None:
        """A row is left out. `length` in tokens, where it is known."""
        tally.drop(reason, place)

    def keep(self, tally: Tally, row: KeptRow) -> None:
        """A row is trained on."""
        tally.keep(row.tokens, row.supervised_tokens, truncated=row.truncated)

    def require_sources(self, found: Sequence[object]) -> None:
        """There is something to train on; a run never comes here otherwise."""

    def enough_so_far(self, tally: Tally, max_dropped_fraction: float) -> bool:
        """Whether it is worth looking at what is left of a source more closely."""
        return bool(tally.rows_kept) and tally.fraction_allowed(max_dropped_fraction)

    def require_enough(self, tally: Tally, max_dropped_fraction: float) -> None:
        """All rows of a source are tallied. Raises RunFailed when too few are left."""
        tally.require_rows()
        tally.require_fraction(max_dropped_fraction)


RUN = Inspection()
