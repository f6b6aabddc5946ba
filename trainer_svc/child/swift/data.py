"""The data of an ms-swift run: checked, looked at with ms-swift's own eyes, written.

Owns the pre-pass. Files are read and checked by checked_rows.py; then a script
in ms-swift's environment (inside/prepass.py) says of each row what training
would make of it. Rows that ms-swift would drop, or replace by random others, are
taken out and counted here, before a GPU is used. Data sets on the Hugging Face
hub are read as files are; those on ModelScope go to ms-swift by their names, as
training data alone, and are only looked at. Refuses rows that ms-swift's template
does not take where the job is strict, texts and dialogues in one job, what
receipts.py refuses (RunFailed, DATASET_INVALID), and what ms-swift would take for
something else than the spec means (CONFIG_INVALID).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from tunewright.v1.feed_pb2 import SEVERITY_WARNING, DataPrepared
from tunewright.v1.spec_pb2 import DATA_FORMAT_TEXT, DataSource, JobSpec

from trainer_svc.child.attempt import ExitedWithoutWords
from trainer_svc.child.checked_rows import CheckedPart, write_checked
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.inspection import RUN, Inspection, KeptRow
from trainer_svc.child.locations import HubId, find_data, split_limit
from trainer_svc.child.raw_row import data_failure
from trainer_svc.child.receipts import NO_SUPERVISED_TOKENS, TOO_LONG, Tally, settle
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.sources import PARTS, Part, rules_of
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift import inside
from trainer_svc.child.swift.inside.row_segments import Segment
from trainer_svc.child.swift.process import Program
from trainer_svc.child.swift.relay import Relay
from trainer_svc.child.swift.trained_rows import PICTURE_IN_TEXT, as_trained, names_a_picture

SCRIPT = Path(inside.__path__[0], "prepass.py")
REFUSED_BY_SWIFT = "refused_by_swift"
TURN_SECONDS = 0.05


class Fate(IntEnum):
    """What training would make of a row; as in inside/prepass.py."""

    KEPT = 0
    TRUNCATED = 1
    TOO_LONG = 2
    NO_SUPERVISED_TOKENS = 3
    REFUSED = 4
    REFUSED_KIND = 5


DROPPED: Mapping[Fate, str] = {
    Fate.TOO_LONG: TOO_LONG,
    Fate.NO_SUPERVISED_TOKENS: NO_SUPERVISED_TOKENS,
    Fate.REFUSED: REFUSED_BY_SWIFT,
    Fate.REFUSED_KIND: REFUSED_BY_SWIFT,
}


@dataclass(frozen=True)
class Verdict:
    """What ms-swift says of one row. `length`: tokens before it is cut; `segments`: its text,
    where it was asked for."""

    tokens: int
    supervised_tokens: int
    fate: Fate
    why: str
    length: int = 0
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class CheckedSources:
    """The sources of the run: rows, checked, and names of data sets on ModelScope, which are all
    to train on."""

    files: Mapping[Part, CheckedPart]
    modelscope: Sequence[str]
    folder: Path

    def words(self, part: Part) -> tuple[str, ...]:
        """What ms-swift is given for a part. Its file is written by settle_rows."""
        own = (str(self.file(part)),) if part in self.files else ()
        return (*own, *self.modelscope) if part == "train" else own

    def file(self, part: Part) -> Path:
        """The file of the rows that are left."""
        return self.folder / f"{part}.swift.jsonl"

    @property
    def uses_hub(self) -> bool:
        """Whether ms-swift has something to download."""
        return bool(self.modelscope)

    @property
    def text_only(self) -> bool | None:
        """Whether the rows to train on are plain texts; None if all are ModelScope's."""
        return self.files["train"].text_only if "train" in self.files else None


@dataclass(frozen=True)
class SettledData:
    """What is left to train on, and what became of every row."""

    train_rows: int
    receipts: tuple[DataPrepared, ...]
    library_versions: Mapping[str, str]


def check_sources(
    run: RunSpec, folder: Path, spool: Spool, inspection: Inspection = RUN
) -> CheckedSources:
    """Reads and checks the rows of the run, ModelScope's excepted. Raises RunFailed."""
    modelscope = _on_modelscope(run)
    own = replace(run, spec=_without(run.spec, modelscope))
    files = {}
    for part in PARTS:
        checked = write_checked(own, part, folder, spool, inspection)
        if checked is not None:
            _require_unlearnt(run.spec, checked)
            files[part] = checked
    _require_one_kind(run.spec, files)
    return CheckedSources(files, modelscope, folder)


def _on_modelscope(run: RunSpec) -> tuple[str, ...]:
    """The sources that ms-swift is given by name."""
    if run.spec.swift.use_hf:
        return ()
    for source in run.spec.eval_data:
        if _is_hub_id(run, source):
            raise RunFailed(
                Cause.CONFIG_INVALID,
                f"{source.source} is in eval_data and would come from ModelScope, of whose data"
                " sets ms-swift takes the part for training, also to evaluate",
                "Give a file, or set use_hf to take the data set from the Hugging Face hub.",
            )
    return tuple(_name(one) for one in run.spec.train_data if _is_hub_id(run, one))


def _is_hub_id(run: RunSpec, asked: DataSource) -> bool:
    name, _ = split_limit(asked.source)
    return isinstance(find_data(name, run.data_roots, run.allow_hub), HubId)


def _name(asked: DataSource) -> str:
    if asked.columns:
        raise data_failure(
            f"{asked.source} would come from ModelScope, whose columns ms-swift finds itself; the"
            " job names some",
            "Leave out the columns, or download the data set and give its files.",
        )
    if asked.split:
        raise data_failure(
            f"{asked.source} would come from ModelScope, of whose data sets ms-swift takes no part"
            f" by name ({asked.split!r})",
            "Leave out the split, or download the data set and give its files.",
        )
    return asked.source


def _without(spec: JobSpec, modelscope: Sequence[str]) -> JobSpec:
    """The spec with the sources that are read here alone."""
    left = JobSpec()
    left.CopyFrom(spec)
    kept = [source for source in spec.train_data if source.source not in modelscope]
    del left.train_data[:]
    left.train_data.extend(kept)
    return left


def _require_unlearnt(spec: JobSpec, part: CheckedPart) -> None:
    """ms-swift learns either what the assistant says or everything, of every turn."""
    wanted = spec.hyperparameters
    learns_all = wanted.HasField("assistant_only_loss") and not wanted.assistant_only_loss
    if part.first_unlearnt and learns_all:
        raise RunFailed(
            Cause.CONFIG_INVALID,
            "turns that are not learnt (prompts of completions, weights of 0) and"
            " assistant_only_loss false do not go together with ms-swift: it would learn their"
            f" marks and prompts too, of {part.first_unlearnt} first",
            "Set assistant_only_loss to true, or use the qlora backend.",
        )


def _require_one_kind(spec: JobSpec, files: Mapping[Part, CheckedPart]) -> None:
    """ms-swift reads both parts in one way."""
    if "eval" not in files:
        return
    if "train" in files:
        trains_texts = files["train"].text_only
    else:
        trains_texts = all(source.format == DATA_FORMAT_TEXT for source in spec.train_data)
    if files["eval"].text_only != trains_texts:
        kinds = ("plain texts", "dialogues")
        train, evaluation = kinds if trains_texts else kinds[::-1]
        raise data_failure(
            f"train_data holds {train}, and eval_data {evaluation}: ms-swift reads both in one way",
            f"Evaluate on {train}, or use the qlora backend with a model that reads text only.",
        )


@dataclass(frozen=True)
class _Look:
    """One thing to look at, and where what is said of it goes."""

    part: Part
    source: str
    verdicts: Path

    def request(self, checked: CheckedSources, rows_shown: int) -> dict[str, Any]:
        asked = {"name": self.part, "verdicts": str(self.verdicts), "show": rows_shown}
        if self.source:
            return {**asked, "dataset": self.source}
        part = checked.files[self.part]
        return {**asked, "rows": str(part.path), "row_ends": part.row_ends}


class Prepass:
    """The look at the rows. Its program is started beforehand: it takes seconds to be ready,
    in which the files can be checked."""

    def __init__(
        self, program: Program, run: RunSpec, spool: Spool, inspection: Inspection = RUN
    ) -> None:
        self._program = program
        self._run = run
        self._rules = rules_of(run, run.paths.cache, inspection)
        self._spool = spool

    def settle(self, checked: CheckedSources, argv: Sequence[str]) -> SettledData:
        """Looks at every row, with the arguments that training gets (`argv`, its first word the
        command), writes the files of what is left, and tells the receipts.

        Raises RunFailed, ExitedWithoutWords.
        """
        looks = list(_looks(checked))
        self._ask(looks, checked, argv)
        versions: Mapping[str, str] = {}
        rows: dict[Part, int] = dict.fromkeys(PARTS, 0)
        tallies: list[Tally] = []
        for look in looks:
            header, verdicts = read_verdicts(look.verdicts)
            versions = header["versions"]
            if header["blind"]:
                self._tell_blind(look, header["blind"])
                verdicts = (Verdict(0, 0, Fate.KEPT, "") for _ in range(header["rows"]))
            found = self._sieve(look, checked, verdicts, header["thought_marks"])
            tallies += found
            rows[look.part] += sum(tally.rows_kept for tally in found)
            look.verdicts.unlink()
        receipts = settle(
            tallies, self._spool, self._rules.max_dropped_fraction, self._rules.inspection
        )
        return SettledData(rows["train"], receipts, versions)

    def _ask(self, looks: Sequence[_Look], checked: CheckedSources, argv: Sequence[str]) -> None:
        shown = self._rules.inspection.rows_shown
        parts = [look.request(checked, shown) for look in looks]
        request = {"argv": list(argv), "parts": parts}
        self._program.ask(json.dumps(request).encode() + b"\n")
        relay = Relay(self._program)
        while (code := self._program.poll()) is None:
            relay.pump(TURN_SECONDS)
        relay.drain()
        if code != 0:
            raise ExitedWithoutWords(code)

    def _sieve(
        self,
        look: _Look,
        checked: CheckedSources,
        verdicts: Iterator[Verdict],
        thought_marks: Sequence[str] | None,
    ) -> Sequence[Tally]:
        if look.source:
            return [self._tally_hub(look, verdicts)]
        part = checked.files[look.part]
        with (
            part.path.open(encoding="utf-8") as rows,
            checked.file(look.part).open("w", encoding="utf-8") as left,
        ):
            for number, (line, verdict) in enumerate(zip(rows, verdicts, strict=True)):
                row = json.loads(line)
                place = row.pop("place")
                if names_a_picture(row):
                    verdict = Verdict(0, 0, Fate.REFUSED, PICTURE_IN_TEXT)
                if self._judge(part.tally_of(number), place, verdict):
                    written = as_trained(row, part, thought_marks)
                    left.write(json.dumps(written, ensure_ascii=False) + "\n")
        part.path.unlink()
        return part.tallies

    def _tally_hub(self, look: _Look, verdicts: Iterator[Verdict]) -> Tally:
        max_length = self._run.spec.hyperparameters.max_length
        tally = Tally(look.part, look.source, look.source, max_length)
        for number, verdict in enumerate(verdicts, start=1):
            tally.rows_read += 1
            self._judge(tally, f"{look.source}:row {number}", verdict)
        return tally

    def _judge(self, tally: Tally, place: str, verdict: Verdict) -> bool:
        """Tallies a row; whether it is kept. Raises RunFailed."""
        inspection = self._rules.inspection
        reason = DROPPED.get(verdict.fate)
        if reason is None:
            inspection.keep(tally, _kept(place, verdict))
            return True
        if verdict.fate is Fate.REFUSED_KIND:  # strict or not: the whole source is of that kind
            inspection.refuse_row(
                data_failure(f"{place}: {verdict.why}", "Use a data set of dialogues.")
            )
        elif verdict.fate is Fate.REFUSED and self._rules.strict:
            inspection.refuse_row(
                data_failure(
                    f"{place}: ms-swift's template does not take this row: {verdict.why}",
                    "Correct the data file, or set strict to false to leave such rows out.",
                )
            )
        inspection.drop(tally, reason, place, verdict.why, verdict.length)
        return False

    def _tell_blind(self, look: _Look, why: str) -> None:
        text = f"the {look.part} rows could not be looked at beforehand: {why}"
        self._spool.event("ROWS_NOT_LOOKED_AT", text, SEVERITY_WARNING, part=look.part)


def _kept(place: str, verdict: Verdict) -> KeptRow:
    return KeptRow(
        place,
        verdict.tokens,
        verdict.supervised_tokens,
        truncated=verdict.fate is Fate.TRUNCATED,
        length=verdict.length,
        segments=verdict.segments,
    )


def _looks(checked: CheckedSources) -> Iterator[_Look]:
    for part in PARTS:
        if part in checked.files:
            yield _Look(part, "", checked.folder / f"{part}.verdicts.jsonl")
    for number, source in enumerate(checked.modelscope):
        yield _Look("train", source, checked.folder / f"modelscope-{number}.verdicts.jsonl")


def read_verdicts(path: Path) -> tuple[dict[str, Any], Iterator[Verdict]]:
    """What the script wrote: its header, and a verdict for each row."""
    with path.open(encoding="utf-8") as file:
        header: dict[str, Any] = json.loads(file.readline())
    return header, _verdicts(path)


def _verdicts(path: Path) -> Iterator[Verdict]:
    with path.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            tokens, supervised, fate, why, length, segments = json.loads(line)
            shown = tuple(Segment(*segment) for segment in segments)
            yield Verdict(tokens, supervised, Fate(fate), why, length, shown)
