"""From data sources to rows about pictures on disk.

Owns the way of such a row: read and checked as any other, encoded once with its
pictures for the receipt and the labels, sieved into the file that training
reads. That file has the text and where the pictures lie; pixels are made batch
by batch (vlm_batches.py). A row longer than max_length is left out as too_long:
a picture cannot be cut. Refuses what prepare.py refuses.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
from jinja2 import TemplateError
from tunewright.v1.feed_pb2 import DataPrepared

from trainer_svc.child.arrow_rows import DIALOGUE_COLUMNS, arrow_file
from trainer_svc.child.dialogue import as_columns, from_columns
from trainer_svc.child.encoding import OUTCOME, Encoding, broken, outcome, refused, sieve
from trainer_svc.child.inspection import IGNORED, RUN, Inspection
from trainer_svc.child.progress import SILENT, DataProgress
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
from trainer_svc.child.turns.refusals import RowRefused
from trainer_svc.child.vlm_masks import EncodedText, PictureEncoder, PicturesMisplaced

if TYPE_CHECKING:
    from transformers import ProcessorMixin

ENCODE_ROWS = 16
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
ENCODED = pa.schema([*OUTCOME, *KEPT, ("input_ids", pa.list_(pa.int32()))])


def prepare_pictures(
    run: RunSpec,
    processor: "ProcessorMixin",
    cache: Path,
    spool: Spool,
    inspection: Inspection = RUN,
) -> Prepared:
    """Prepares all data of the run below `cache`; the sets have the columns text, pictures
    (paths) and labels, with -100 where there is no loss. Raises RunFailed."""
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs

    wanted = run.spec.hyperparameters
    encoder = PictureEncoder(processor, wanted.assistant_only_loss)
    progress = DataProgress(spool.event)
    rules = rules_of(run, cache, inspection)
    if rules.system_prompt:
        inspection.attempt(encoder.require_system_role)
    preparation = Preparation(encoder, wanted.max_length, rules, cache, progress)
    found = {part: find_sources(run, part, cache, spool, inspection) for part in PARTS}
    inspection.require_sources(found["train"])
    cache.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Dataset] = {}
    receipts: list[DataPrepared] = []
    for part, sources in found.items():
        if not sources:
            continue
        tell_preparing(part, sources, spool)
        path = cache / f"{part}.arrow"
        tallies = preparation.prepare(part, sources, path)
        receipts += settle(tallies, spool, rules.max_dropped_fraction, inspection)
        parts[part] = Dataset.from_file(str(path))
    return Prepared(parts["train"], parts.get("eval"), tuple(receipts))


class Preparation:
    """Prepares the parts of one run."""

    def __init__(
        self,
        encoder: PictureEncoder,
        max_length: int,
        rules: Rules,
        folder: Path,
        progress: DataProgress = SILENT,
    ) -> None:
        self.rules = rules
        self._encoder = encoder
        self._max_length = max_length
        self._folder = folder
        self._progress = progress

    def prepare(self, part: Part, sources: Sequence[Source], path: Path) -> list[Tally]:
        """Writes the rows that are kept to `path`; what became of each source's rows."""
        tallies = []
        with arrow_file(path, KEPT) as kept:
            for number, source in enumerate(sources):
                tally = Tally(part, source.given, source.place, self._max_length, cuts=False)
                rows_file = self._folder / f"{part}-{number}-rows.arrow"
                with arrow_file(rows_file, CHECKED) as rows:
                    checked = check_rows(source, self.rules, tally)
                    for row in self._progress.reading(checked, tally):
                        rows.add(_columns(row))
                if tally.rows_kept:
                    encoded = self._encoding().encoded(rows_file, tally.rows_kept)
                    sieve(encoded, tally, self.rules, kept, self._progress)
                rows_file.unlink()
                tallies.append(tally)
        return tallies

    def _encoding(self) -> Encoding:
        def encode(row: Mapping[str, Any]) -> Mapping[str, Any]:
            return _encode_row(row, self._encoder, self._max_length)

        return Encoding(encode, ENCODED, ENCODE_ROWS, PARALLEL_ROWS)


def _columns(row: CheckedRow) -> Mapping[str, Any]:
    return {
        **as_columns(row.dialogue),
        "plain": row.plain,
        "pictures": [str(path) for path in row.images],
        "place": row.place,
    }


def _encode_row(row: Mapping[str, Any], encoder: PictureEncoder, max_length: int) -> dict[str, Any]:
    try:
        encoded = _encoded(row, encoder, max_length)
    except (TemplateError, RowRefused, PicturesMisplaced) as error:
        return _without_tokens(refused(error))
    except (OSError, ValueError) as error:
        why = f"the model's processor does not take these pictures: {error}"
        return _without_tokens(broken(why))
    tokens = encoded.encoded
    labels = [
        token if loss else IGNORED
        for token, loss in zip(tokens.input_ids, tokens.supervised, strict=True)
    ]
    _, columns = outcome(labels, max_length, cuts=False, thoughts_dropped=tokens.thoughts_dropped)
    return {
        **columns,
        "text": encoded.text,
        "pictures": row["pictures"],
        "labels": labels,
        "input_ids": tokens.input_ids,
    }


def _without_tokens(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {**columns, "text": "", "pictures": [], "labels": [], "input_ids": []}


def _encoded(row: Mapping[str, Any], encoder: PictureEncoder, max_length: int) -> EncodedText:
    pictures = [Path(path) for path in row["pictures"]]
    dialogue = from_columns(row)
    if row["plain"]:
        return encoder.encode_plain(dialogue[0].content, pictures)
    return encoder.encode_row(dialogue, pictures, max_length)
