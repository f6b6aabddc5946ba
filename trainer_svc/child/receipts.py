"""Counts what became of the rows of one data set.

Owns the tally behind a DataPrepared entry. Pure. Every row read is either kept
or counted under the reason it was left out, with the first few places.
"""

from dataclasses import dataclass, field

from tunewright.v1.feed_pb2 import DataPrepared, DroppedRows

from trainer_svc.child.failure import Cause, RunFailed

PLACES_MAX = 5
TOO_LONG = "too_long"
NO_SUPERVISED_TOKENS = "no_supervised_tokens"


@dataclass
class _Dropped:
    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Counts for one source. `part` is "train" or "eval", `place` the file or hub id."""

    part: str
    source: str
    place: str
    max_length: int
    rows_read: int = 0
    rows_kept: int = 0
    rows_truncated: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    dropped: dict[str, _Dropped] = field(default_factory=dict)

    def keep(self, tokens: int, supervised_tokens: int, truncated: bool) -> None:
        """A row is kept."""
        self.rows_kept += 1
        self.rows_truncated += truncated
        self.tokens += tokens
        self.supervised_tokens += supervised_tokens

    def drop(self, reason: str, line: int) -> None:
        """A row is left out; `line` says where it is, from 1."""
        dropped = self.dropped.setdefault(reason, _Dropped())
        dropped.count += 1
        if len(dropped.places) < PLACES_MAX:
            dropped.places.append(f"{self.place}:{line}")

    def receipt(self) -> DataPrepared:
        """As in the contract, the reasons by falling count."""
        by_count = sorted(self.dropped.items(), key=lambda item: -item[1].count)
        return DataPrepared(
            part=self.part,
            source=self.source,
            rows_read=self.rows_read,
            rows_kept=self.rows_kept,
            rows_truncated=self.rows_truncated,
            tokens=self.tokens,
            supervised_tokens=self.supervised_tokens,
            dropped=[
                DroppedRows(reason=reason, count=dropped.count, places=dropped.places)
                for reason, dropped in by_count
            ],
        )

    def require_rows(self) -> None:
        """Raises RunFailed when nothing is left to train on or to evaluate."""
        if self.rows_kept:
            return
        if not self.rows_read:
            raise RunFailed(
                Cause.DATASET_INVALID, f"{self.place} has no rows", "Give a data set with rows."
            )
        too_long = self.dropped.get(TOO_LONG)
        if too_long is not None and too_long.count == self.rows_read:
            raise RunFailed(
                Cause.DATASET_INVALID,
                f"every row of {self.place} is too long: none of the {self.rows_read} has a token"
                f" to learn within max_length = {self.max_length}",
                "Raise max_length.",
            )
        reasons = ", ".join(f"{name}: {dropped.count}" for name, dropped in self.dropped.items())
        raise RunFailed(
            Cause.DATASET_INVALID,
            f"no row of {self.place} can be used; of {self.rows_read} rows were left out {reasons}",
            "Look at the places named in the data receipt.",
        )
