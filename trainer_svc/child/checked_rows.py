"""The data of one part of a run, checked and written to one JSON Lines file.

Owns that file's form, the same whatever the sources were written in:
{"messages": [{"role", "content"}, ...], "images": [path, ...], "place": "file.jsonl:17"}
with absolute paths, and "images" only where there are some. An assistant's
message that is not learnt has "loss": false, as ms-swift reads it, and one with
a thought has "reasoning_content". What follows the last answer that is learnt is
left off: nothing is learnt from it, and ms-swift would learn where it ends.
Plain text is a single message of the assistant's. Refuses to mix plain texts and
dialogues, because one file is read in one way (RunFailed, DATASET_INVALID).
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from tunewright.v1.spec_pb2 import MODEL_KIND_VLM

from trainer_svc.child.dialogue import Dialogue, Message
from trainer_svc.child.images import MARK
from trainer_svc.child.inspection import RUN, Inspection
from trainer_svc.child.progress import DataProgress
from trainer_svc.child.raw_row import data_failure
from trainer_svc.child.receipts import Tally, settle
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.source_rows import CheckedRow, Rules, check_rows
from trainer_svc.child.sources import Part, find_sources, rules_of, tell_preparing
from trainer_svc.child.spool import Spool

# ms-swift's templates have no place for them.
NAMES = "messages[].name"


@dataclass(frozen=True)
class CheckedPart:
    """The rows of one part: a file, and one tally for each source, in the order of the file.
    `text_only`: all rows are plain texts; otherwise all are dialogues."""

    path: Path
    tallies: tuple[Tally, ...]
    rows: int
    text_only: bool
    row_ends: tuple[int, ...]
    """Where the rows of each source end in the file, counted from its beginning."""
    first_unlearnt: str
    """Where the first row is that has a turn which is not learnt; empty without one."""

    def tally_of(self, row: int) -> Tally:
        """The tally for row number `row` of the file, from 0: to drop it, or to say its size."""
        return self.tallies[bisect_right(self.row_ends, row)]


def write_checked(
    run: RunSpec, part: Part, folder: Path, spool: Spool, inspection: Inspection = RUN
) -> CheckedPart | None:
    """Reads, checks and writes the rows of one part to `folder`, which is made; None when the
    part has no sources.

    The receipts are not told yet: rows may still be left out. Raises RunFailed at the first
    malformed row of a strict job, and, the receipts told, when too few rows are left already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = find_sources(run, part, folder, spool, inspection)
    if not sources:
        return None
    tell_preparing(part, sources, spool)
    rules = rules_of(run, folder, inspection)
    path = folder / f"{part}.jsonl"
    writer = _RowWriter()
    progress = DataProgress(spool.event)
    tallies: list[Tally] = []
    with path.open("w", encoding="utf-8") as file:
        for source in sources:
            tally = Tally(
                part,
                source.given,
                source.place,
                run.spec.hyperparameters.max_length,
                cuts=run.spec.model_kind != MODEL_KIND_VLM,
            )
            tallies.append(tally)
            rows = progress.reading(check_rows(source, rules, tally), tally)
            file.writelines(writer.lines(rows, tally))
    _require_enough(tallies, rules, spool)
    row_ends = tuple(accumulate(tally.rows_kept for tally in tallies))
    return CheckedPart(
        path,
        tuple(tallies),
        row_ends[-1],
        bool(writer.plain),
        row_ends,
        writer.first_unlearnt,
    )


class _RowWriter:
    """Makes rows to lines; knows whether they are plain texts, and what is in them."""

    def __init__(self) -> None:
        self.plain: bool | None = None
        self.first_unlearnt = ""
        self._first_place = ""

    def lines(self, rows: Iterator[CheckedRow], tally: Tally) -> Iterator[str]:
        for row in rows:
            self._require_one_kind(row)
            if not self.first_unlearnt and any(not turn.learnt for turn in row.dialogue):
                self.first_unlearnt = row.place
            if any(turn.name for turn in row.dialogue):
                tally.ignore([NAMES])
            yield json.dumps(_document(row), ensure_ascii=False) + "\n"

    def _require_one_kind(self, row: CheckedRow) -> None:
        if self.plain is None:
            self.plain, self._first_place = row.plain, row.place
        if row.plain is not self.plain:
            kinds = ("a plain text", "a dialogue")
            here, there = kinds if row.plain else kinds[::-1]
            raise data_failure(
                f"{row.place} is {here}, and {self._first_place} is {there}: this job's backend"
                " trains on one or the other",
                "Make a job of each, or use the qlora backend with a model that reads text only.",
            )


def _document(row: CheckedRow) -> dict[str, Any]:
    dialogue = _until_learnt(row.dialogue)
    document: dict[str, Any] = {"messages": [_message(turn) for turn in dialogue]}
    images = row.images
    if len(dialogue) < len(row.dialogue):
        images = images[: sum(turn.content.count(MARK) for turn in dialogue)]
    if images:
        document["images"] = [str(image) for image in images]
    document["place"] = row.place
    return document


def _until_learnt(dialogue: Dialogue) -> Dialogue:
    """The turns up to the last answer that is learnt, if a later one is not."""
    answers = [at for at, turn in enumerate(dialogue) if turn.role == "assistant"]
    if dialogue[answers[-1]].learnt:
        return dialogue
    last = max(at for at in answers if dialogue[at].learnt)
    return dialogue[: last + 1]


def _message(turn: Message) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if not turn.learnt and turn.role == "assistant":
        message["loss"] = False
    if turn.thought:
        message["reasoning_content"] = turn.thought
    return message


def _require_enough(tallies: Sequence[Tally], rules: Rules, spool: Spool) -> None:
    """Fails now, and tells why, if the sources cannot do whatever else is left out."""
    limit, inspection = rules.max_dropped_fraction, rules.inspection
    if not all(inspection.enough_so_far(tally, limit) for tally in tallies):
        settle(tallies, spool, limit, inspection)
