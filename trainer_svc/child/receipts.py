"""Counts what became of the rows of one data set.

Owns the tally behind a DataPrepared entry, and the limit on what may be left
out. Pure. Every row read is either kept or counted under the reason it was
left out, with the first few places; every key that was not used is counted too,
and one in more than half of the rows is a warning. Refuses a source of which
nothing is left, and one of which more is left out than the job allows
(RunFailed, DATASET_INVALID).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunewright.v1.feed_pb2 import SEVERITY_WARNING, DataPrepared, DroppedRows, IgnoredKey

from trainer_svc.child.dialogue import Dialogue
from trainer_svc.child.failure import Cause, RunFailed

if TYPE_CHECKING:
    from trainer_svc.child.inspection import Inspection
    from trainer_svc.child.spool import Spool

PLACES_MAX = 5
# Places of each reason that a failure's message names.
PLACES_TOLD = 3
TOO_LONG = "too_long"
NO_SUPERVISED_TOKENS = "no_supervised_tokens"
MALFORMED = "malformed"
# Keys that are listed, and how much of each; rows can have any number of them.
KEYS_MAX = 64
KEY_CHARACTERS = 64
# Keys that a warning names.
KEYS_TOLD = 8


@dataclass
class _Dropped:
    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Counts for one source. `part` is "train" or "eval", `place` the file or hub id; `cuts`:
    rows longer than max_length are cut, not left out."""

    part: str
    source: str
    place: str
    max_length: int
    rows_read: int = 0
    rows_truncated: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    thoughts_dropped: int = 0
    dropped: dict[str, _Dropped] = field(default_factory=dict)
    cuts: bool = True
    ignored: dict[str, int] = field(default_factory=dict)
    ignored_omitted_rows: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    split: str = ""
    turns_not_learnt: int = 0
    thoughts: int = 0
    empty_answers: int = 0

    @property
    def rows_dropped(self) -> int:
        """Rows left out, for whatever reason."""
        return sum(dropped.count for dropped in self.dropped.values())

    @property
    def rows_kept(self) -> int:
        """Rows not left out, so far."""
        return self.rows_read - self.rows_dropped

    def keep(self, tokens: int, supervised_tokens: int, truncated: bool) -> None:
        """A row is kept, and this is its size."""
        self.rows_truncated += truncated
        self.tokens += tokens
        self.supervised_tokens += supervised_tokens

    def drop(self, reason: str, place: str) -> None:
        """A row is left out; `place` says where it is ("file.jsonl:17")."""
        dropped = self.dropped.setdefault(reason, _Dropped())
        dropped.count += 1
        if len(dropped.places) < PLACES_MAX:
            dropped.places.append(place)

    def ignore(self, keys: Iterable[str]) -> None:
        """A row has these keys, and nothing reads them."""
        omitted = False
        for key in keys:
            if key in self.ignored:
                self.ignored[key] += 1
            elif len(self.ignored) < KEYS_MAX:
                self.ignored[key] = 1
            else:
                omitted = True
        self.ignored_omitted_rows += omitted

    def look_at(self, dialogue: Dialogue) -> None:
        """A row is read, and this is its dialogue."""
        for turn in dialogue:
            if turn.role == "assistant":
                if turn.thought:
                    self.thoughts += 1
                if not turn.learnt:
                    self.turns_not_learnt += 1
                elif not (turn.content or turn.thought):
                    self.empty_answers += 1

    @property
    def often_ignored(self) -> list[str]:
        """Keys that more than half of the rows have and nothing reads, by falling count."""
        return [
            _shown(key)
            for key, rows in sorted(self.ignored.items(), key=lambda item: -item[1])
            if rows * 2 > self.rows_read
        ]

    def receipt(self) -> DataPrepared:
        """As in the contract, the reasons by falling count."""
        return DataPrepared(
            part=self.part,
            source=self.source,
            rows_read=self.rows_read,
            rows_kept=self.rows_kept,
            rows_truncated=self.rows_truncated,
            tokens=self.tokens,
            supervised_tokens=self.supervised_tokens,
            thoughts_dropped=self.thoughts_dropped,
            dropped=[
                DroppedRows(reason=reason, count=dropped.count, places=dropped.places)
                for reason, dropped in self._by_count()
            ],
            ignored_keys=[
                IgnoredKey(key=_shown(key), rows=rows)
                for key, rows in sorted(self.ignored.items(), key=lambda item: -item[1])
            ],
            ignored_keys_omitted_rows=self.ignored_omitted_rows,
            columns=self.columns,
            split=_shown(self.split),
            turns_not_learnt=self.turns_not_learnt,
            thoughts=self.thoughts,
            empty_answers=self.empty_answers,
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
            none_of = f"none of the {self.rows_read}"
            why = (
                f"{none_of} has a token to learn within max_length = {self.max_length}"
                if self.cuts
                else f"{none_of} is within max_length = {self.max_length}, and rows of a model"
                " that reads pictures are not cut"
            )
            raise RunFailed(
                Cause.DATASET_INVALID,
                f"every row of {self.place} is too long: {why}",
                "Raise max_length.",
            )
        raise RunFailed(
            Cause.DATASET_INVALID,
            f"no row of {self.place} can be used; of {self.rows_read} rows were left out"
            f" {self._reasons()}",
            "Look at the places named.",
        )

    def fraction_allowed(self, max_dropped_fraction: float) -> bool:
        """Whether the share of the rows read that is left out is no greater than that."""
        return not self.rows_read or self.rows_dropped / self.rows_read <= max_dropped_fraction

    def require_fraction(self, max_dropped_fraction: float) -> None:
        """Raises RunFailed when a greater share of the rows read is left out. One that is just
        as great is allowed."""
        if self.fraction_allowed(max_dropped_fraction):
            return
        share = self.rows_dropped / self.rows_read
        raise RunFailed(
            Cause.DATASET_INVALID,
            f"{self.rows_dropped} of {self.rows_read} rows of {self.place} ({share:.2%}) are left"
            f" out, more than max_dropped_fraction = {max_dropped_fraction:g} allows:"
            f" {self._reasons()}",
            "Correct the rows at the places named, or raise max_dropped_fraction.",
        )

    def _reasons(self) -> str:
        """Counts by reason, with the first few places of each."""
        return ", ".join(
            f"{reason}: {dropped.count} ({', '.join(dropped.places[:PLACES_TOLD])}"
            f"{', ...' if dropped.count > PLACES_TOLD else ''})"
            for reason, dropped in self._by_count()
        )

    def _by_count(self) -> list[tuple[str, _Dropped]]:
        return sorted(self.dropped.items(), key=lambda item: -item[1].count)


def _shown(key: str) -> str:
    """A key as a receipt can hold it: JSON can spell halves of characters."""
    return key[:KEY_CHARACTERS].encode(errors="replace").decode()


def report(tally: Tally, spool: "Spool") -> DataPrepared:
    """Writes the receipt of a source, and a warning where its rows mean more than is read."""
    receipt = tally.receipt()
    spool.data_prepared(receipt)
    often = tally.often_ignored
    if often:
        named = ", ".join(often[:KEYS_TOLD]) + (", ..." if len(often) > KEYS_TOLD else "")
        spool.event(
            "ROW_KEYS_IGNORED",
            f"more than half of the rows of {tally.place} have keys that nothing reads: {named}",
            SEVERITY_WARNING,
            part=tally.part,
            source=tally.source,
            keys=named,
        )
    return receipt


def settle(
    tallies: Iterable[Tally], spool: "Spool", max_dropped_fraction: float, inspection: "Inspection"
) -> tuple[DataPrepared, ...]:
    """Reports what became of the rows, once all that are dropped are tallied. Raises RunFailed
    when too little is left; then the receipts have been reported all the same."""
    listed = tuple(tallies)
    receipts = tuple(report(tally, spool) for tally in listed)
    for tally in listed:
        inspection.require_enough(tally, max_dropped_fraction)
    return receipts
