"""From data sources to memory-mapped token ids on disk.

Owns the way of a row: read one at a time, written to Arrow, encoded in a map
over that, sieved into the file that training reads. At no time is more than a
batch in memory, so a set larger than memory trains. A row longer than
max_length is cut at its end; it is left out as too_long only if no token with
loss is left. Refuses broken rows, and sets of which too few rows can be used
(RunFailed, DATASET_INVALID, with file and line).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
from jinja2 import TemplateError

from trainer_svc.child.dialogue import COLUMNS, Dialogue, as_columns, from_columns
from trainer_svc.child.masks import Encoder, Encoders, TurnsNotFound
from trainer_svc.child.raw_row import data_failure
from trainer_svc.child.receipts import MALFORMED, NO_SUPERVISED_TOKENS, TOO_LONG, Tally
from trainer_svc.child.source_rows import CheckedRow, Rules, Source, check_rows

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs

IGNORED = -100
WRITE_ROWS = 1_000
# Or fewer rows, of at least so much: a batch of them has to fit in memory, and in Arrow's
# 32-bit offsets.
WRITE_BYTES = 32 << 20
ENCODE_ROWS = 256
# Below this many rows, starting processes costs more than it saves.
PARALLEL_ROWS = 20_000
PROCESSES_MAX = 8

DIALOGUE_COLUMNS = (
    ("roles", pa.list_(pa.string())),
    ("contents", pa.list_(pa.string())),
    ("learnt", pa.list_(pa.bool_())),
    ("thoughts", pa.list_(pa.string())),
    ("names", pa.list_(pa.string())),
)
ROWS = pa.schema(
    [
        *DIALOGUE_COLUMNS,
        ("place", pa.string()),
    ]
)
TOKENS = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


class Fate(IntEnum):
    """What became of a row in encoding."""

    KEPT = 0
    TRUNCATED = 1
    TOO_LONG = 2
    NO_SUPERVISED_TOKENS = 3
    BROKEN = 4


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
            plain = _write_rows(source, recipe.rules, tally, rows_file)
            if tally.rows_kept:
                encoder = recipe.encoders.of_texts if plain else recipe.encoders.of_dialogues
                encoded = _encode_rows(rows_file, encoder, recipe.max_length)
                _sieve(encoded, tally, recipe.rules, kept)
                for cached in encoded.cache_files:
                    Path(cached["filename"]).unlink()
            rows_file.unlink()
            on_tally(tally)
            tally.require_rows()
            tally.require_fraction(recipe.rules.max_dropped_fraction)
    return Dataset.from_file(str(folder / f"{part}.arrow"))


@contextmanager
def arrow_file(path: Path, schema: pa.Schema) -> Iterator["ArrowWriter"]:
    """Writes an Arrow stream that can be memory-mapped, complete when the block ends."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        writer = ArrowWriter(schema, stream)
        yield writer
        writer.flush()


class ArrowWriter:
    """Writes rows to an Arrow stream in batches."""

    def __init__(self, schema: pa.Schema, stream: Any) -> None:
        self._schema = schema
        self._stream = stream
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes `row`, now or later."""
        self._rows.append(row)
        self._bytes += sum(map(_size_bytes, row.values()))
        if len(self._rows) >= WRITE_ROWS or self._bytes >= WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is not written yet."""
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()
            self._bytes = 0


def _size_bytes(value: Any) -> int:
    """About what it takes in Arrow."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, list) and value and isinstance(value[0], str):
        return sum(map(_size_bytes, value))
    return 4 * len(value) if isinstance(value, list) else 4


def _write_rows(source: Source, rules: Rules, tally: Tally, path: Path) -> bool:
    """Whether the rows are plain texts."""
    plain = False
    with arrow_file(path, ROWS) as writer:
        for row in check_rows(source, rules, tally):
            writer.add(_columns(row))
            plain = row.plain
    return plain


def _columns(row: CheckedRow) -> Mapping[str, Any]:
    return {**as_columns(row.dialogue), "place": row.place}


def _encode_rows(path: Path, encoder: Encoder, max_length: int) -> "Dataset":
    from datasets import Dataset, Features, List, Value

    rows = Dataset.from_file(str(path))
    ids = List(Value("int32"))
    return rows.map(
        _encode_batch,
        batched=True,
        batch_size=ENCODE_ROWS,
        num_proc=_processes(len(rows)),
        fn_kwargs={"encoder": encoder, "max_length": max_length},
        remove_columns=list(COLUMNS),
        features=Features(
            place=Value("string"),
            input_ids=ids,
            labels=ids,
            fate=Value("int8"),
            why=Value("string"),
        ),
        cache_file_name=str(path.with_suffix(".encoded.arrow")),
        load_from_cache_file=False,
        # Named by us: to derive one, the library would hash the whole tokenizer.
        new_fingerprint=path.stem,
    )


def _processes(rows: int) -> int | None:
    if rows < PARALLEL_ROWS:
        return None
    return min(PROCESSES_MAX, len(os.sched_getaffinity(0)))


def _encode_batch(
    batch: Mapping[str, list[Any]], encoder: Encoder, max_length: int
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "fate": [], "why": []}
    for at in range(len(batch["place"])):
        dialogue = from_columns({name: batch[name][at] for name in COLUMNS})
        ids, labels, fate, why = _encode_row(dialogue, encoder, max_length)
        columns["input_ids"].append(ids)
        columns["labels"].append(labels)
        columns["fate"].append(fate)
        columns["why"].append(why)
    return {"place": batch["place"], **columns}


def _encode_row(
    dialogue: Dialogue, encoder: Encoder, max_length: int
) -> tuple[list[int], list[int], Fate, str]:
    try:
        encoded = encoder.encode(dialogue, max_length)
    except (TemplateError, TurnsNotFound) as error:
        return [], [], Fate.BROKEN, f"the chat template does not take this dialogue: {error}"
    labels = [
        token if loss else IGNORED
        for token, loss in zip(encoded.input_ids, encoded.supervised, strict=True)
    ]
    # The first token is predicted from nothing, so a label there counts for nothing.
    if all(label == IGNORED for label in labels[1:]):
        return [], [], Fate.NO_SUPERVISED_TOKENS, ""
    if len(labels) <= max_length:
        return encoded.input_ids, labels, Fate.KEPT, ""
    if all(label == IGNORED for label in labels[1:max_length]):
        return [], [], Fate.TOO_LONG, ""
    return encoded.input_ids[:max_length], labels[:max_length], Fate.TRUNCATED, ""


REASONS: Mapping[int, str] = {
    Fate.TOO_LONG: TOO_LONG,
    Fate.NO_SUPERVISED_TOKENS: NO_SUPERVISED_TOKENS,
    Fate.BROKEN: MALFORMED,
}


def _sieve(encoded: "Dataset", tally: Tally, rules: Rules, kept: ArrowWriter) -> None:
    """Writes the rows that are kept and tallies all of them."""
    for batch in encoded.with_format("arrow").iter(batch_size=WRITE_ROWS):
        for row in batch.to_pylist():
            fate = row["fate"]
            if fate == Fate.BROKEN and rules.strict:
                raise data_failure(f"{row['place']}: {row['why']}")
            if fate in REASONS:
                tally.drop(REASONS[fate], row["place"])
                continue
            supervised = sum(label != IGNORED for label in row["labels"])
            tally.keep(len(row["input_ids"]), supervised, truncated=fate == Fate.TRUNCATED)
            kept.add({"input_ids": row["input_ids"], "labels": row["labels"]})
