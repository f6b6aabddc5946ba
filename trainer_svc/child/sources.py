"""The data of a run: from the sources in its spec to rows, and to prepared sets.

Owns how a source's name, format, split and columns are read, and packing. "#N" after a
name takes the first N rows of that source alone, whatever becomes of them.
Refuses what locations.py, data_rows.py, source_rows.py and prepare.py refuse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tunewright.v1.feed_pb2 import DataPrepared
from tunewright.v1.spec_pb2 import (
    DATA_FORMAT_ALPACA,
    DATA_FORMAT_LCCC,
    DATA_FORMAT_MESSAGES,
    DATA_FORMAT_PROMPT_COMPLETION,
    DATA_FORMAT_SHAREGPT,
    DATA_FORMAT_TEXT,
    MODEL_KIND_VLM,
    DataSource,
)

from trainer_svc.child.asked import Asked
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.images import Pictures
from trainer_svc.child.inspection import RUN, Inspection
from trainer_svc.child.locations import find_data, split_limit
from trainer_svc.child.masks import Encoders
from trainer_svc.child.prepare import Recipe, prepare
from trainer_svc.child.progress import DataProgress
from trainer_svc.child.receipts import Tally, report
from trainer_svc.child.rows.formats import RowFormat
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.source_rows import Rules, Source, file_source
from trainer_svc.child.spool import Spool
from trainer_svc.child.tables import with_lists

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs
    from transformers import PreTrainedTokenizerBase

Part = Literal["train", "eval"]
PARTS: tuple[Part, ...] = ("train", "eval")
FORMATS: Mapping[int, RowFormat] = {
    DATA_FORMAT_MESSAGES: RowFormat.MESSAGES,
    DATA_FORMAT_LCCC: RowFormat.LCCC,
    DATA_FORMAT_ALPACA: RowFormat.ALPACA,
    DATA_FORMAT_SHAREGPT: RowFormat.SHAREGPT,
    DATA_FORMAT_PROMPT_COMPLETION: RowFormat.PROMPT_COMPLETION,
    DATA_FORMAT_TEXT: RowFormat.TEXT,
}
# The part of a source that has several, unless the spec names one.
DEFAULT_SPLITS: Mapping[Part, str] = {"train": "train", "eval": "valid"}
# What a spec that leaves it out means; the scheduler fills it in.
MAX_DROPPED_FRACTION = 0.1


@dataclass(frozen=True)
class Prepared:
    """Token ids on disk, and what became of every row."""

    train: "Dataset"
    evaluation: "Dataset | None"
    receipts: tuple[DataPrepared, ...]


def prepare_sources(
    run: RunSpec,
    tokenizer: "PreTrainedTokenizerBase",
    cache: Path,
    spool: Spool,
    inspection: Inspection = RUN,
) -> Prepared:
    """Prepares all data of the run below `cache`. Raises RunFailed."""
    wanted = run.spec.hyperparameters
    encoders = Encoders(tokenizer, wanted.assistant_only_loss)
    rules = rules_of(run, cache, inspection)
    recipe = Recipe(encoders, wanted.max_length, rules)
    if rules.system_prompt:
        inspection.attempt(encoders.require_system_role)
    parts: dict[str, Dataset] = {}
    receipts: list[DataPrepared] = []

    def on_tally(tally: Tally) -> None:
        receipts.append(report(tally, spool))

    progress = DataProgress(spool.event)
    # All sources are found before the first is read: a wrong path shows at once.
    found = {part: find_sources(run, part, cache, spool, inspection) for part in PARTS}
    inspection.require_sources(found["train"])
    for part, sources in found.items():
        if not sources:
            continue
        tell_preparing(part, sources, spool)
        tokens = prepare(part, sources, recipe, cache, on_tally, progress)
        packs = wanted.packing and len(tokens) > 0
        parts[part] = _packed(tokens, wanted.max_length) if packs else tokens
    return Prepared(parts["train"], parts.get("eval"), tuple(receipts))


def rules_of(run: RunSpec, cache: Path, inspection: Inspection = RUN) -> Rules:
    """What the run's spec says about its rows. Pictures that come as bytes go to `cache`."""
    spec = run.spec
    reads_pictures = spec.model_kind == MODEL_KIND_VLM
    return Rules(
        system_prompt=spec.system_prompt,
        strict=spec.strict if spec.HasField("strict") else True,
        max_dropped_fraction=max_dropped_fraction(run),
        pictures=Pictures(run.data_roots, cache / "pictures") if reads_pictures else None,
        assistant_only=_assistant_only(run),
        inspection=inspection,
    )


def _assistant_only(run: RunSpec) -> bool:
    """What a spec that leaves it out means: the scheduler fills it in."""
    wanted = run.spec.hyperparameters
    return wanted.assistant_only_loss if wanted.HasField("assistant_only_loss") else True


def max_dropped_fraction(run: RunSpec) -> float:
    """Share of a source's rows that may be left out."""
    spec = run.spec
    if spec.HasField("max_dropped_fraction"):
        return float(spec.max_dropped_fraction)
    return MAX_DROPPED_FRACTION


def find_sources(
    run: RunSpec, part: Part, cache: Path, spool: Spool, inspection: Inspection = RUN
) -> list[Source]:
    """The sources of one part, in order; nothing is read yet, what comes from a hub is there.
    Raises RunFailed."""
    asked: Sequence[DataSource] = run.spec.train_data if part == "train" else run.spec.eval_data
    found = []
    for one in asked:
        try:
            found.append(_find(run, one, part, cache, spool))
        except RunFailed as failure:
            inspection.refuse(failure)
    return found


def tell_preparing(part: Part, sources: Sequence[Source], spool: Spool) -> None:
    """Says that the work on these sources begins."""
    names = ", ".join(source.given for source in sources)
    spool.event("DATA_PREPARING", f"preparing {part} data: {names}", part=part)


def _find(run: RunSpec, asked: DataSource, part: Part, cache: Path, spool: Spool) -> Source:
    name, limit = split_limit(asked.source)
    found = find_data(name, run.data_roots, run.allow_hub)
    default = DEFAULT_SPLITS[part]
    row_format, columns = FORMATS.get(asked.format), dict(asked.columns)
    if isinstance(found, Path):
        return file_source(asked.source, found, asked.split, default, row_format, limit, columns)
    from trainer_svc.child.hub import download_rows
    from trainer_svc.child.pins import pins_of

    split = asked.split or default
    layout = Asked("", split, row_format, columns)
    rows, commit = download_rows(found, layout, cache / "hub", pins_of(run), spool)
    place = f"{found.name}@{commit}"
    return Source(
        asked.source, place, with_lists(rows, columns), row_format, limit, columns=columns
    )


def _packed(tokens: "Dataset", max_length: int) -> "Dataset":
    """Several rows to a sequence, each attending to itself alone."""
    from trl.data_utils import pack_dataset

    return pack_dataset(tokens, max_length, "bfd")
