"""The rows of one data source, checked one by one.

Owns what happens to a row that is not as it should be: with `strict` it fails
the run, with its file and line; without, it is left out and tallied under its
reason. Keys that nothing reads are tallied too. Refuses data of a kind that is
not learnt from, and rows with pictures where the model reads none, whether
strict or not (RunFailed, DATASET_INVALID).
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from trainer_svc.child.asked import Asked
from trainer_svc.child.data_rows import read_rows
from trainer_svc.child.dialogue import Dialogue, Unusable
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.images import PictureBroken, Pictures, picture_values
from trainer_svc.child.inspection import RUN, Inspection
from trainer_svc.child.raw_row import RawRow, RowStream, data_failure
from trainer_svc.child.receipts import MALFORMED, Tally
from trainer_svc.child.rows.broken import RowBroken, is_set
from trainer_svc.child.rows.formats import RowFormat
from trainer_svc.child.rows.layout import Columns, Layout, find_layout
from trainer_svc.child.rows.notes import Notes
from trainer_svc.child.rows.reading import to_dialogue
from trainer_svc.child.rows.refusals import RowRefused, refuse_row

LEAVE_OUT = "Correct the data file, or set strict to false to leave such rows out."
LEARN_IT = "Set assistant_only_loss to false to learn other turns too, or take the weight out."

# Of a row that fails any job; no receipt has it, for the run ends there.
REFUSED = "refused"


@dataclass(frozen=True)
class Source:
    """One data source, found: a file, or rows that are on disk already (a hub's). `limit` is the
    number of rows to read at most, whatever becomes of them. Pictures are named relative to
    `folder`; None: not by a path. `columns` is what the job says its fields are called."""

    given: str
    place: str
    rows: RowStream
    row_format: RowFormat | None
    limit: int | None
    folder: Path | None = None
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What the job says about its rows. Without `pictures`, its model reads text only;
    `assistant_only`: only what the assistant says is learnt."""

    system_prompt: str = ""
    strict: bool = True
    max_dropped_fraction: float = 0.1
    pictures: Pictures | None = None
    assistant_only: bool = True
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
    columns: Columns | None = None,
) -> Source:
    """A source that reads `path`."""
    asked = Asked(split, default_split, row_format, columns or {})
    rows = read_rows(path, asked)
    return Source(given, str(path), rows, row_format, limit, path.parent, asked.columns)


class _Dropped(Exception):
    """The row is left out, if the job is not strict; if it is, `hint` says what to do."""

    def __init__(self, reason: str, message: str, hint: str = LEAVE_OUT) -> None:
        super().__init__(message)
        self.reason = reason
        self.hint = hint or LEAVE_OUT


def check_rows(source: Source, rules: Rules, tally: Tally) -> Iterator[CheckedRow]:
    """The rows of `source` that can be trained on; every row read is counted in `tally`, which
    also gets those that are left out. Raises RunFailed."""
    checker = _RowChecker(source, rules, tally)
    inspection = rules.inspection
    for row in _raw_rows(source, inspection):
        tally.rows_read += 1
        inspection.read(tally)
        place = row.place(source.place)
        try:
            checked = checker.check(row, place)
        except _Dropped as dropped:
            if rules.strict:
                inspection.refuse_row(data_failure(f"{place}: {dropped}", dropped.hint))
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
        text = turn.content
        if turn.thought or turn.name:
            text += turn.thought + turn.name
        if text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = text[error.start]
            message = f"{half!r} is half a character (a lone surrogate)"
            raise _Dropped(MALFORMED, message) from None


class _RowChecker:
    """Checks rows of one source, whose layout it learns from the first."""

    def __init__(self, source: Source, rules: Rules, tally: Tally) -> None:
        self._rules = rules
        self._tally = tally
        self._source = source
        self._layout: Layout | None = None

    def check(self, row: RawRow, place: str) -> CheckedRow | Unusable:
        """Raises _Dropped, RunFailed."""
        if row.part:
            self._tally.split = row.part
        if row.broken:
            raise _Dropped(MALFORMED, row.broken)
        try:
            return self._check(row, place)
        except RowRefused as refused:
            kind = refused.refusal
            if not kind.reason:
                raise data_failure(f"{place}: {refused}", kind.hint) from None
            raise _Dropped(kind.reason, str(refused), kind.hint) from None
        except RowBroken as error:
            raise _Dropped(MALFORMED, f"{error}{self._renamed()}", error.hint) from None

    def _check(self, row: RawRow, place: str) -> CheckedRow | Unusable:
        layout = self._layout_of(row.value, place)
        plain = layout.row_format is RowFormat.TEXT
        value = layout.standard(row.value)
        if isinstance(value, dict):
            refuse_row(row.value, plain, layout.imitated)
        notes = Notes()
        dialogue = to_dialogue(value, layout.row_format, self._rules.system_prompt, notes)
        if notes.asks_to_learn and self._rules.assistant_only:
            message = f"{notes.asks_to_learn}, and assistant_only_loss is true"
            raise RowBroken(message, LEARN_IT)
        pictures = self._pictures_of(value, notes)
        ignored = self._ignored(row, value, layout, notes)
        if ignored:
            self._tally.ignore(ignored)
        if isinstance(dialogue, Unusable):
            return dialogue
        _require_characters(dialogue)
        images = self._images(dialogue, pictures, place)
        self._tally.look_at(dialogue)
        return CheckedRow(dialogue, images, place, plain)

    def _layout_of(self, value: object, place: str) -> Layout:
        if self._layout is None:
            source = self._source
            if isinstance(value, dict):  # before it is said to be of no format
                imitated = frozenset(source.columns.values())
                refuse_row(value, source.row_format is RowFormat.TEXT or "text" in value, imitated)
            self._layout = _require_layout(value, source, place)
            self._tally.columns = dict(self._layout.columns)
        return self._layout

    def _renamed(self) -> str:
        """What the fields are called here, after what is wrong with one of them."""
        columns = self._layout.columns if self._layout else {}
        if not columns:
            return ""
        return f" (columns: {', '.join(f'{name}={own}' for name, own in columns.items())})"

    def _ignored(self, row: RawRow, value: object, layout: Layout, notes: Notes) -> Sequence[str]:
        if not isinstance(value, dict):
            return ()
        unused = [name for name in layout.unused(value) if is_set(value[name])]
        shadowed = layout.shadowed(row.value) if layout.columns else ()
        return [*row.unread, *unused, *shadowed, *notes.ignored]

    def _pictures_of(self, value: object, notes: Notes) -> list[object]:
        beside = picture_values(value)
        if beside and notes.pictures:
            raise RowBroken('has pictures in its contents and in "images"', "Give one of the two.")
        return beside or notes.pictures

    def _images(self, dialogue: Dialogue, pictures: list[object], place: str) -> tuple[Path, ...]:
        if self._rules.pictures is None:
            if pictures:
                raise data_failure(
                    f"{place}: the row has pictures, and the model is taken to read text only",
                    "Set model_kind to vlm, or take the pictures out of the data set.",
                )
            return ()
        try:
            return self._rules.pictures.check(dialogue, pictures, self._source.folder)
        except PictureBroken as error:
            raise _Dropped(error.reason, str(error)) from None


def _require_layout(value: object, source: Source, place: str) -> Layout:
    """The layout by the first row that can be read. Raises RowBroken, and RunFailed where that
    row does not have the columns that the job names."""
    try:
        return find_layout(value, source.row_format, source.columns)
    except RowBroken as error:
        if not source.columns:
            raise
        raise data_failure(f"{place}: {error}", error.hint) from None
