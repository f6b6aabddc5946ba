"""The rows of one data source, checked one by one.

Owns what happens to a row that is not as it should be: with `strict` it fails
the run, with its file and line; without, it is left out and tallied under its
reason. Refuses rows with pictures where the model reads none: that is the job's
fault, not the row's (RunFailed, DATASET_INVALID).
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trainer_svc.child.data_rows import read_rows
from trainer_svc.child.dialogue import (
    Dialogue,
    RowBroken,
    RowFormat,
    Unusable,
    format_of,
    to_dialogue,
)
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.images import PictureBroken, Pictures, picture_values
from trainer_svc.child.inspection import RUN, Inspection
from trainer_svc.child.raw_row import RawRow, RowStream, data_failure
from trainer_svc.child.receipts import MALFORMED, Tally

# Of a row that fails any job; no receipt has it, for the run ends there.
REFUSED = "refused"


@dataclass(frozen=True)
class Source:
    """One data source, found: a file, or rows that are on disk already (a hub's). `limit` is the
    number of rows to read at most, whatever becomes of them. Pictures are named relative to
    `folder`; None: not by a path."""

    given: str
    place: str
    rows: RowStream
    row_format: RowFormat | None
    limit: int | None
    folder: Path | None = None


@dataclass(frozen=True)
class Rules:
    """What the job says about its rows. Without `pictures`, its model reads text only."""

    system_prompt: str = ""
    strict: bool = True
    max_dropped_fraction: float = 0.1
    pictures: Pictures | None = None
    inspection: Inspection = RUN
    """What is done about what is found."""


@dataclass(frozen=True)
class CheckedRow:
    """A row to train on. `images` are there, and are pictures, one for each mark in the
    dialogue. `plain`: a text without roles, as one turn of the assistant's."""

    dialogue: Dialogue
    images: tuple[Path, ...]
    place: str
    plain: bool


def file_source(
    given: str,
    path: Path,
    split: str,
    default_split: str,
    row_format: RowFormat | None,
    limit: int | None,
) -> Source:
    """A source that reads `path`."""
    rows = read_rows(path, split, default_split)
    return Source(given, str(path), rows, row_format, limit, path.parent)


class _Dropped(Exception):
    """The row is left out, if the job is not strict."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_rows(source: Source, rules: Rules, tally: Tally) -> Iterator[CheckedRow]:
    """The rows of `source` that can be trained on; every row read is counted in `tally`, which
    also gets those that are left out. Raises RunFailed."""
    checker = _RowChecker(source, rules)
    inspection = rules.inspection
    for row in _raw_rows(source, inspection):
        tally.rows_read += 1
        inspection.read(tally)
        place = row.place(source.place)
        try:
            checked = checker.check(row, place)
        except _Dropped as dropped:
            if rules.strict:
                inspection.refuse_row(
                    data_failure(
                        f"{place}: {dropped}",
                        "Correct the data file, or set strict to false to leave such rows out.",
                    )
                )
            inspection.drop(tally, dropped.reason, place, str(dropped))
            continue
        except RunFailed as failure:
            inspection.refuse_row(failure)
            inspection.drop(tally, REFUSED, place, str(failure))
            continue
        if isinstance(checked, Unusable):
            inspection.drop(tally, checked.value, place)
        else:
            yield checked


def _raw_rows(source: Source, inspection: Inspection) -> Iterator[RawRow]:
    """The rows as they are read, to the end of the file or to where it cannot be read."""
    with closing(source.rows):
        try:
            # Not one row further than asked: what comes after it may be broken.
            yield from islice(source.rows, source.limit)
        except RunFailed as failure:
            inspection.refuse(failure)


def _require_characters(dialogue: Dialogue) -> None:
    """JSON can spell halves of characters, which no file or tokenizer takes. Raises _Dropped."""
    for turn in dialogue:
        try:
            turn.content.encode()
        except UnicodeEncodeError as error:
            half = turn.content[error.start]
            raise _Dropped(MALFORMED, f"{half!r} is half a character (a lone surrogate)") from None


class _RowChecker:
    """Checks rows of one source, whose format it learns from the first."""

    def __init__(self, source: Source, rules: Rules) -> None:
        self._rules = rules
        self._folder = source.folder
        self._format = source.row_format

    def check(self, row: RawRow, place: str) -> CheckedRow | Unusable:
        """Raises _Dropped, RunFailed."""
        if row.broken:
            raise _Dropped(MALFORMED, row.broken)
        try:
            self._format = self._format or format_of(row.value)
            dialogue = to_dialogue(row.value, self._format, self._rules.system_prompt)
            pictures = picture_values(row.value)
        except RowBroken as error:
            raise _Dropped(MALFORMED, str(error)) from None
        if isinstance(dialogue, Unusable):
            return dialogue
        _require_characters(dialogue)
        images = self._images(dialogue, pictures, place)
        return CheckedRow(dialogue, images, place, self._format is RowFormat.TEXT)

    def _images(self, dialogue: Dialogue, pictures: list[object], place: str) -> tuple[Path, ...]:
        if self._rules.pictures is None:
            if pictures:
                raise data_failure(
                    f"{place}: the row has pictures, and the model is taken to read text only",
                    "Set model_kind to vlm, or take the pictures out of the data set.",
                )
            return ()
        try:
            return self._rules.pictures.check(dialogue, pictures, self._folder)
        except PictureBroken as error:
            raise _Dropped(error.reason, str(error)) from None
