"""From data sources to rows about pictures on disk.

Owns the way of such a row: read and checked as any other, encoded once with its
pictures for the receipt and the labels, sieved into the file that training
reads. That file has the text and where the pictures lie; pixels are made batch
by batch (vlm_batches.py). A row longer than max_length is left out as too_long:
a picture cannot be cut. Refuses what prepare.py refuses.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
from jinja2 import TemplateError
from tunewright.v1.feed_pb2 import DataPrepared

from trainer_svc.child.dialogue import COLUMNS, as_columns, from_columns
from trainer_svc.child.masks import TurnsNotFound
from trainer_svc.child.prepare import (
    DIALOGUE_COLUMNS,
    IGNORED,
    PROCESSES_MAX,
    REASONS,
    WRITE_ROWS,
    ArrowWriter,
    Fate,
    arrow_file,
)
from trainer_svc.child.raw_row import data_failure
from trainer_svc.child.receipts import Tally, settle
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.source_rows import CheckedRow, Rules, Source, check_rows
from trainer_svc.child.sources import (
    PARTS,
    Part,
    Prepared,
    find_sources,
    rules_of,
    tell_preparing,
)
from trainer_svc.child.spool import Spool
from trainer_svc.child.vlm_masks import EncodedText, PictureEncoder, PicturesMisplaced

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs
    from transformers import ProcessorMixin

ENCODE_ROWS = 16
# Below this many rows, starting processes costs more than it saves.
PARALLEL_ROWS = 1_000
CHECKED = pa.schema(
    [
        *DIALOGUE_COLUMNS,
        ("plain", pa.bool_()),
        ("pictures", pa.list_(pa.string())),
        ("place", pa.string()),
    ]
)
KEPT = pa.schema(
    [
        ("text", pa.string()),
        ("pictures", pa.list_(pa.string())),
        ("labels", pa.list_(pa.int32())),
    ]
)


def prepare_pictures(
    run: RunSpec, processor: "ProcessorMixin", cache: Path, spool: Spool
) -> Prepared:
    """Prepares all data of the run below `cache`; the sets have the columns text, pictures
    (paths) and labels, with -100 where there is no loss. Raises RunFailed."""
    from datasets import Dataset

    wanted = run.spec.hyperparameters
    encoder = PictureEncoder(processor, wanted.assistant_only_loss)
    preparation = Preparation(encoder, wanted.max_length, rules_of(run, cache), cache)
    found = {part: find_sources(run, part, cache, spool) for part in PARTS}
    cache.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Dataset] = {}
    receipts: list[DataPrepared] = []
    for part, sources in found.items():
        if not sources:
            continue
        tell_preparing(part, sources, spool)
        path = cache / f"{part}.arrow"
        tallies = preparation.prepare(part, sources, path)
        receipts += settle(tallies, spool, preparation.rules.max_dropped_fraction)
        parts[part] = Dataset.from_file(str(path))
    return Prepared(parts["train"], parts.get("eval"), tuple(receipts))


class Preparation:
    """Prepares the parts of one run."""

    def __init__(
        self, encoder: PictureEncoder, max_length: int, rules: Rules, folder: Path
    ) -> None:
        self.rules = rules
        self._encoder = encoder
        self._max_length = max_length
        self._folder = folder

    def prepare(self, part: Part, sources: Sequence[Source], path: Path) -> list[Tally]:
        """Writes the rows that are kept to `path`; what became of each source's rows."""
        tallies = []
        with arrow_file(path, KEPT) as kept:
            for number, source in enumerate(sources):
                tally = Tally(part, source.given, source.place, self._max_length, cuts=False)
                rows_file = self._folder / f"{part}-{number}-rows.arrow"
                with arrow_file(rows_file, CHECKED) as rows:
                    for row in check_rows(source, self.rules, tally):
                        rows.add(_columns(row))
                if tally.rows_kept:
                    self._encode(rows_file, tally, kept)
                rows_file.unlink()
                tallies.append(tally)
        return tallies

    def _encode(self, rows_file: Path, tally: Tally, kept: ArrowWriter) -> None:
        encoded = self._encoded(rows_file)
        for batch in encoded.with_format("arrow").iter(batch_size=WRITE_ROWS):
            for row in batch.to_pylist():
                self._sieve(row, tally, kept)
        for cached in encoded.cache_files:
            Path(cached["filename"]).unlink()

    def _encoded(self, rows_file: Path) -> "Dataset":
        from datasets import Dataset, Features, List, Value

        rows = Dataset.from_file(str(rows_file))
        return rows.map(
            _encode_batch,
            batched=True,
            batch_size=ENCODE_ROWS,
            num_proc=_processes(len(rows)),
            fn_kwargs={"encoder": self._encoder, "max_length": self._max_length},
            remove_columns=[*COLUMNS, "plain"],
            features=Features(
                place=Value("string"),
                text=Value("string"),
                pictures=List(Value("string")),
                labels=List(Value("int32")),
                fate=Value("int8"),
                why=Value("string"),
            ),
            cache_file_name=str(rows_file.with_suffix(".encoded.arrow")),
            load_from_cache_file=False,
            new_fingerprint=rows_file.stem,  # to derive one, the library would hash the processor
        )

    def _sieve(self, row: Mapping[str, Any], tally: Tally, kept: ArrowWriter) -> None:
        fate = row["fate"]
        if fate == Fate.BROKEN and self.rules.strict:
            raise data_failure(f"{row['place']}: {row['why']}")
        if fate in REASONS:
            tally.drop(REASONS[fate], row["place"])
            return
        labels = row["labels"]
        supervised = sum(label != IGNORED for label in labels)
        tally.keep(len(labels), supervised, truncated=False)
        kept.add({"text": row["text"], "pictures": row["pictures"], "labels": labels})


def _columns(row: CheckedRow) -> Mapping[str, Any]:
    return {
        **as_columns(row.dialogue),
        "plain": row.plain,
        "pictures": [str(path) for path in row.images],
        "place": row.place,
    }


def _processes(rows: int) -> int | None:
    if rows < PARALLEL_ROWS:
        return None
    return min(PROCESSES_MAX, len(os.sched_getaffinity(0)))


def _encode_batch(
    batch: Mapping[str, list[Any]], encoder: PictureEncoder, max_length: int
) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"text": [], "labels": [], "fate": [], "why": []}
    for at in range(len(batch["place"])):
        row = {name: values[at] for name, values in batch.items()}
        for name, value in _encode_row(row, encoder, max_length).items():
            columns[name].append(value)
    return {"place": batch["place"], "pictures": batch["pictures"], **columns}


def _encode_row(row: Mapping[str, Any], encoder: PictureEncoder, max_length: int) -> dict[str, Any]:
    try:
        encoded = _encoded(row, encoder, max_length)
    except (TemplateError, TurnsNotFound, PicturesMisplaced) as error:
        return _broken(f"the chat template does not take this dialogue: {error}")
    except (OSError, ValueError) as error:
        return _broken(f"the model's processor does not take these pictures: {error}")
    tokens = encoded.encoded
    labels = [
        token if loss else IGNORED
        for token, loss in zip(tokens.input_ids, tokens.supervised, strict=True)
    ]
    fate = Fate.KEPT
    # The first token is predicted from nothing, so a label there counts for nothing.
    if all(label == IGNORED for label in labels[1:]):
        fate = Fate.NO_SUPERVISED_TOKENS
    elif len(labels) > max_length:
        fate = Fate.TOO_LONG
    return {"text": encoded.text, "labels": labels, "fate": fate, "why": ""}


def _broken(why: str) -> dict[str, Any]:
    return {"text": "", "labels": [], "fate": Fate.BROKEN, "why": why}


def _encoded(row: Mapping[str, Any], encoder: PictureEncoder, max_length: int) -> EncodedText:
    pictures = [Path(path) for path in row["pictures"]]
    dialogue = from_columns(row)
    if row["plain"]:
        return encoder.encode_plain(dialogue[0].content, pictures)
    return encoder.encode_row(dialogue, pictures, max_length)
