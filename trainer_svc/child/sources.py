"""The data of a run: from the sources in its spec to prepared sets.

Owns how a source's name, format and split are read, and packing. Refuses what
locations.py, data_rows.py and prepare.py refuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.v1.feed_pb2 import DataPrepared
from tunewright.v1.spec_pb2 import DATA_FORMAT_LCCC, DATA_FORMAT_MESSAGES, DataSource

from trainer_svc.child.dialogue import RowFormat
from trainer_svc.child.locations import find_data, split_limit
from trainer_svc.child.masks import ChatEncoder
from trainer_svc.child.prepare import Recipe, Source, file_source, prepare
from trainer_svc.child.receipts import Tally
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.spool import Spool

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs
    from transformers import PreTrainedTokenizerBase

FORMATS: Mapping[int, RowFormat] = {
    DATA_FORMAT_MESSAGES: RowFormat.MESSAGES,
    DATA_FORMAT_LCCC: RowFormat.LCCC,
}
# The part of a source that has several, unless the spec names one.
DEFAULT_SPLITS: Mapping[str, str] = {"train": "train", "eval": "valid"}


@dataclass(frozen=True)
class Prepared:
    """Token ids on disk, and what became of every row."""

    train: "Dataset"
    evaluation: "Dataset | None"
    receipts: tuple[DataPrepared, ...]


def prepare_sources(
    run: RunSpec, tokenizer: "PreTrainedTokenizerBase", cache: Path, spool: Spool
) -> Prepared:
    """Prepares all data of the run below `cache`. Raises RunFailed."""
    wanted = run.spec.hyperparameters
    recipe = Recipe(
        ChatEncoder(tokenizer, wanted.assistant_only_loss),
        wanted.max_length,
        run.spec.system_prompt,
    )
    parts: dict[str, Dataset] = {}
    receipts: list[DataPrepared] = []

    def on_tally(tally: Tally) -> None:
        receipts.append(tally.receipt())
        spool.data_prepared(receipts[-1])

    asked: dict[str, Sequence[DataSource]] = {
        "train": run.spec.train_data,
        "eval": run.spec.eval_data,
    }
    # All sources are found before the first is read: a wrong path shows at once.
    found = {part: [_find(run, one, part, cache) for one in asked[part]] for part in asked}
    for part, sources in found.items():
        if not sources:
            continue
        names = ", ".join(source.given for source in sources)
        spool.event("DATA_PREPARING", f"preparing {part} data: {names}", part=part)
        tokens = prepare(part, sources, recipe, cache, on_tally)
        parts[part] = _packed(tokens, wanted.max_length) if wanted.packing else tokens
    return Prepared(parts["train"], parts.get("eval"), tuple(receipts))


def _find(run: RunSpec, asked: DataSource, part: str, cache: Path) -> Source:
    name, limit = split_limit(asked.source)
    found = find_data(name, run.data_roots, run.allow_hub)
    default = DEFAULT_SPLITS[part]
    row_format = FORMATS.get(asked.format)
    if isinstance(found, Path):
        return file_source(asked.source, found, asked.split, default, row_format, limit)
    from trainer_svc.child.hub import download_rows

    rows, commit = download_rows(found, asked.split or default, cache / "hub")
    return Source(asked.source, f"{found.name}@{commit}", rows, row_format, limit)


def _packed(tokens: "Dataset", max_length: int) -> "Dataset":
    """Several rows to a sequence, each attending to itself alone."""
    from trl.data_utils import pack_dataset

    return pack_dataset(tokens, max_length, "bfd")
