"""How the rows of one source are laid out: their format, and what its fields are called there.

Owns how a layout is found: from what the job says, else from the keys of the
first row. Names that leave no doubt are recognised: other capital letters, and
the columns of well-known sets. Pure. Refuses a row of no known format, and
columns that the first row does not have (RowBroken).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer_svc.child.rows.broken import RowBroken, kind_of
from trainer_svc.child.rows.formats import (
    FIELDS,
    FORMAT_FIELDS,
    USED,
    RowFormat,
    format_of_fields,
    known_fields,
)
from trainer_svc.child.rows.refusals import KEYS

Columns = Mapping[str, str]
"""From the fields of a format to a source's own names for them."""
NAMES_TOLD = 8
NAME_CHARACTERS = 64
COLUMNS_HINT = (
    "Name the fields by their own names, or say what they are called with columns"
    ' (--data "FILE,instruction=question,output=answer").'
)
_QUESTION_AND_ANSWER = {"context": "input", "history": "history", "system": "system"}
PRESETS: tuple[tuple[Columns, Columns], ...] = (
    # GSM8K, and many others
    ({"question": "instruction", "answer": "output"}, _QUESTION_AND_ANSWER),
    # OpenOrca
    ({"question": "instruction", "response": "output"},
     {**_QUESTION_AND_ANSWER, "system_prompt": "system"}),
    # ms-swift
    ({"query": "instruction", "response": "output"}, _QUESTION_AND_ANSWER),
    # Dolly
    ({"instruction": "instruction", "response": "output"},
     {**_QUESTION_AND_ANSWER, "input": "input"}),
    ({"prompt": "prompt", "response": "completion"}, {"system": "system"}),
    ({"input": "instruction", "output": "output"}, {"history": "history", "system": "system"}),
)  # fmt: skip
"""Names that are recognised: those that must be there, and those that may, with what they are."""
_PRESET_NAMES = frozenset(name for must, may in PRESETS for names in (must, may) for name in names)


@dataclass(frozen=True)
class Layout:
    """A format, and the source's own names of its fields where they differ. `imitated`: keys of
    preference data that the job itself names as what to learn."""

    row_format: RowFormat
    columns: Columns = field(default_factory=dict)
    imitated: frozenset[str] = frozenset()

    def standard(self, row: Any) -> Any:
        """The row with the fields under the format's names."""
        if not self.columns or not isinstance(row, dict):
            return row
        renamed = {name: row[own] for name, own in self.columns.items() if own in row}
        taken = {*self.columns, *self.columns.values()}
        return {**{name: value for name, value in row.items() if name not in taken}, **renamed}

    def shadowed(self, row: Any) -> list[str]:
        """Keys of the row that cannot be read, for the job gives their names to others."""
        if not self.columns or not isinstance(row, dict):
            return []
        owns = set(self.columns.values())
        return [name for name in self.columns if name in row and name not in owns]

    def unused(self, row: Mapping[str, Any]) -> set[str]:
        """Keys of a row under standard names that nothing reads."""
        return row.keys() - USED[self.row_format]


def find_layout(row: Any, row_format: RowFormat | None, columns: Columns) -> Layout:
    """The layout of a source whose first row this is; `row_format` and `columns` are what the
    job says. Raises RowBroken."""
    if not isinstance(row, dict):
        if columns:
            raise RowBroken(f"expected an object with {_listed(columns.values())}, found"
                            f" {kind_of(row)}")  # fmt: skip
        if row_format is None and not isinstance(row, list):
            raise RowBroken(f"expected a dialogue, found {kind_of(row)}")
        return Layout(row_format or RowFormat.LCCC)
    set_names = [name for name, value in row.items() if value is not None]
    found = layout_of_names(set_names, row_format, columns) or layout_of_names(
        row, row_format, columns
    )
    if found is not None:
        return found
    if row_format is not None and not columns:
        return Layout(row_format)  # its reader says what is missing
    missing = [own for own in columns.values() if own not in row]
    if missing:
        raise RowBroken(
            f"has no {_listed(missing)}, named in columns; it has: {_names(row)}",
            "Correct the columns of this source.",
        )
    renamed = Layout(RowFormat.TEXT, columns).standard(row)
    raise RowBroken(f"expected {known_fields()}, found: {_names(renamed)}", COLUMNS_HINT)


def layout_of_names(
    names: Collection[Any], row_format: RowFormat | None, columns: Columns
) -> Layout | None:
    """The layout of rows with keys of these names; None when there is none."""
    if columns:
        return _given(names, row_format, columns)
    exact = format_of_fields(names, row_format)
    if exact is not None:
        return Layout(exact)
    folded = _folded(names)
    form = format_of_fields(folded, row_format)
    if form is not None:
        return Layout(form, _different({one: folded[one] for one in USED[form] if one in folded}))
    return _preset(folded, row_format)


def recognises(row: Any, columns: Columns) -> bool:
    """Whether an object looks like a row."""
    return isinstance(row, dict) and layout_of_names(row, None, columns) is not None


def fields_of(columns: Columns) -> frozenset[str]:
    """Every key that means something in a row, also one that is refused, where the job names
    these columns."""
    return FIELDS | KEYS | frozenset(columns.values())


def columns_read(
    names: Collection[str], row_format: RowFormat | None, columns: Columns
) -> list[str] | None:
    """Those of a table's columns that are read, in their order; None where it holds no rows of
    a known format, or not the columns that the job names."""
    found = layout_of_names(names, row_format, columns)
    if found is None and (row_format is None or columns):
        return None
    wanted = fields_of(columns)
    if not format_of_fields(names, row_format):
        wanted |= frozenset(name for name in names if name.lower() in wanted | _PRESET_NAMES)
    return [name for name in names if name in wanted] or None


def header_fault(names: Collection[str], columns: Columns) -> str:
    """What is wrong with the columns of a table that holds no rows of a known format."""
    missing = [own for own in columns.values() if own not in names]
    if missing:
        return f"has no column {_listed(missing)}, named in columns; it has: {_names(names)}"
    return f"expected {known_fields()}, found the columns {_names(names)}"


def _given(names: Collection[Any], row_format: RowFormat | None, columns: Columns) -> Layout | None:
    if not all(own in names for own in columns.values()):
        return None
    standard = {*names, *columns}.difference(set(columns.values()) - set(columns))
    form = format_of_fields(standard, row_format) or row_format
    imitated = frozenset(
        own for name, own in columns.items() if name not in ("system", "images", "image")
    )
    return None if form is None else Layout(form, columns, imitated)


def _preset(folded: Columns, row_format: RowFormat | None) -> Layout | None:
    for must, may in PRESETS:
        if not all(name in folded for name in must):
            continue
        form = next(form for fields, form in FORMAT_FIELDS if set(must.values()) == set(fields))
        if row_format in (None, form):
            meant = {
                standard: folded[name]
                for name, standard in {**must, **may}.items()
                if name in folded
            }
            return Layout(form, _different(meant))
    return None


def _folded(names: Collection[Any]) -> Columns:
    """The names in small letters, with how they are written; without those that are then the
    same."""
    written = [name for name in names if isinstance(name, str)]
    small = [name.lower() for name in written]
    return {one: own for one, own in zip(small, written, strict=True) if small.count(one) == 1}


def _different(columns: Columns) -> Columns:
    return {name: own for name, own in sorted(columns.items()) if name != own}


def _listed(names: Collection[str]) -> str:
    return ", ".join(f'"{name[:NAME_CHARACTERS]}"' for name in names)


def _names(row: Collection[Any]) -> str:
    names = [str(name)[:NAME_CHARACTERS] for name in row]
    more = ", ..." if len(names) > NAMES_TOLD else ""
    return ", ".join(names[:NAMES_TOLD]) + more or "none"
