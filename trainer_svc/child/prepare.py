"""From data sources to memory-mapped token ids on disk.

Owns the way of a row: read one at a time, written to Arrow, encoded batch by
batch, sieved into the file that training reads. A row longer than max_length is
cut at its end; it is left out as too_long only if no token with loss is left.
Refuses broken rows, and sets of which too few rows can be used (RunFailed,
DATASET_INVALID, with file and line).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
from jinja2 import TemplateError

from trainer_svc.child.arrow_rows import DIALOGUE_COLUMNS, arrow_file
from trainer_svc.child.dialogue import as_columns, from_columns
from trainer_svc.child.encoding import (
    OUTCOME,
    Encoding,
    Fate,
    outcome,
    refused,
    sieve,
)
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.inspection import IGNORED
from trainer_svc.child.masks import Encoder, Encoders
from trainer_svc.child.progress import SILENT, DataProgress
from trainer_svc.child.receipts import Tally
from trainer_svc.child.source_rows import CheckedRow, Rules, Source, check_rows
from trainer_svc.child.turns.refusals import RowRefused

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs

ENCODE_ROWS = 256
PARALLEL_ROWS = 20_000

ROWS = pa.schema([*DIALOGUE_COLUMNS, ("place", pa.string())])
TOKENS = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
ENCODED = pa.schema([*OUTCOME, *TOKENS])


@dataclass(frozen=True)
class Recipe:
    """How rows become token ids."""

    encoders: Encoders
    max_length: int
    rules: Rules


def prepare(
    part: str,
    sources: Sequence[Source],
    recipe: Recipe,
    folder: Path,
    on_tally: Callable[[Tally], None],
    progress: DataProgress = SILENT,
) -> "Dataset":
    """The token ids of all sources, in order; `on_tally` hears what became of each one's rows.

    `part` is "train" or "eval"; files go to `folder`, which is made. The columns are
    input_ids and labels, with -100 where there is no loss. Raises RunFailed.
    """
    from datasets import Dataset

    folder.mkdir(parents=True, exist_ok=True)
    with arrow_file(folder / f"{part}.arrow", TOKENS) as kept:
        for number, source in enumerate(sources):
            tally = Tally(part, source.given, source.place, recipe.max_length)
            rows_file = folder / f"{part}-{number}-rows.arrow"
            rows = progress.reading(check_rows(source, recipe.rules, tally), tally)
            plain = _write_rows(rows, rows_file)
            if tally.rows_kept:
                encoding = _encoding(recipe, plain)
                if encoding is not None:
                    encoded = encoding.encoded(rows_file, tally.rows_kept)
                    sieve(encoded, tally, recipe.rules, kept, progress)
            rows_file.unlink()
            on_tally(tally)
            rules = recipe.rules
            rules.inspection.require_enough(tally, rules.max_dropped_fraction)
    return Dataset.from_file(str(folder / f"{part}.arrow"))


def _write_rows(rows: Iterable[CheckedRow], path: Path) -> bool:
    """Whether the rows are plain texts."""
    plain = False
    with arrow_file(path, ROWS) as writer:
        for row in rows:
            writer.add(_columns(row))
            plain = row.plain
    return plain


def _columns(row: CheckedRow) -> Mapping[str, Any]:
    return {**as_columns(row.dialogue), "place": row.place}


def _encoding(recipe: Recipe, plain: bool) -> Encoding | None:
    """None: the model cannot encode such rows, and a data check has noted it. Raises RunFailed."""
    try:
        encoder = recipe.encoders.of_texts if plain else recipe.encoders.of_dialogues
    except RunFailed as failure:
        recipe.rules.inspection.refuse(failure)
        return None

    def encode(row: Mapping[str, Any]) -> Mapping[str, Any]:
        return _encode_row(row, encoder, recipe.max_length)

    return Encoding(encode, ENCODED, ENCODE_ROWS, PARALLEL_ROWS)


def _encode_row(row: Mapping[str, Any], encoder: Encoder, max_length: int) -> Mapping[str, Any]:
    try:
        encoded = encoder.encode(from_columns(row), max_length)
    except (TemplateError, RowRefused) as error:
        return {**refused(error), "input_ids": [], "labels": []}
    labels = [
        token if loss else IGNORED
        for token, loss in zip(encoded.input_ids, encoded.supervised, strict=True)
    ]
    fate, columns = outcome(
        labels, max_length, cuts=True, thoughts_dropped=encoded.thoughts_dropped
    )
    if fate in (Fate.KEPT, Fate.TRUNCATED):
        ids = encoded.input_ids[:max_length]
        return {**columns, "input_ids": ids, "labels": labels[:max_length]}
    return {**columns, "input_ids": [], "labels": []}
