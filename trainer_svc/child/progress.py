"""Reports how far the preparation of data is.

Owns how often: a set that is prepared within seconds reports nothing, a large
one every few seconds, so that nobody takes the work for a hang.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from trainer_svc.child.receipts import Tally

EVERY_SECONDS = 5.0
DATA_PROGRESS = "DATA_PROGRESS"
Row = TypeVar("Row")


class DataProgress:
    """Reports on one run's data; `report` takes an event as Spool.event does."""

    def __init__(
        self, report: Callable[..., None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._clock = clock
        self._due = clock() + EVERY_SECONDS

    def reading(self, rows: Iterator[Row], tally: Tally) -> Iterator[Row]:
        """The same rows; reports how many have been read."""
        for row in rows:
            yield row
            if self._is_due():
                self._say(tally, "reading", f"read {tally.rows_read:,} rows", tally.rows_read)

    def encoded(self, tally: Tally, done: int, total: int) -> None:
        """Of the `total` rows of a source that could be read, `done` are encoded."""
        if self._is_due():
            text = f"encoded {done:,} of {total:,} rows"
            self._say(tally, "encoding", text, done, rows_total=total)

    def _is_due(self) -> bool:
        now = self._clock()
        if now < self._due:
            return False
        self._due = now + EVERY_SECONDS
        return True

    def _say(self, tally: Tally, stage: str, text: str, done: int, **more: Any) -> None:
        self._report(
            DATA_PROGRESS,
            f"{text} of {tally.source}",
            part=tally.part,
            source=tally.source,
            stage=stage,
            rows_done=done,
            **more,
        )


def _nothing(*_event: Any, **_details: Any) -> None:
    """Reports to nobody."""


SILENT = DataProgress(_nothing)
