"""The data of an ms-swift run: checked, looked at with ms-swift's own eyes, written.

Owns the pre-pass. Files are read and checked by checked_rows.py; then a script
in ms-swift's environment (inside/prepass.py) says of each row what training
would make of it. Rows that ms-swift would drop, or replace by random others, are
taken out and counted here, before a GPU is used. Data sets on a hub go to
ms-swift by their names and are only looked at. Refuses rows that ms-swift's
template does not take where the job is strict, and what receipts.py refuses
(RunFailed, DATASET_INVALID).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from tunewright.v1.feed_pb2 import SEVERITY_WARNING, DataPrepared
from tunewright.v1.spec_pb2 import DataSource, JobSpec

from trainer_svc.child.attempt import ExitedWithoutWords
from trainer_svc.child.checked_rows import CheckedPart, write_checked
from trainer_svc.child.locations import HubId, find_data, split_limit
from trainer_svc.child.raw_row import data_failure
from trainer_svc.child.receipts import NO_SUPERVISED_TOKENS, TOO_LONG, Tally, settle
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.sources import PARTS, Part, max_dropped_fraction
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift import inside
from trainer_svc.child.swift.process import Program
from trainer_svc.child.swift.relay import Relay

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


DROPPED: Mapping[Fate, str] = {
    Fate.TOO_LONG: TOO_LONG,
    Fate.NO_SUPERVISED_TOKENS: NO_SUPERVISED_TOKENS,
    Fate.REFUSED: REFUSED_BY_SWIFT,
}


@dataclass(frozen=True)
class Verdict:
    """What ms-swift says of one row."""

    tokens: int
    supervised_tokens: int
    fate: Fate
    why: str


@dataclass(frozen=True)
class CheckedSources:
    """The sources of the run: rows of files, checked, and names of data sets on a hub."""

    files: Mapping[Part, CheckedPart]
    hub: Mapping[Part, Sequence[str]]
    folder: Path

    def words(self, part: Part) -> tuple[str, ...]:
        """What ms-swift is given for a part. Its file is written by settle_rows."""
        own = (str(self.file(part)),) if part in self.files else ()
        return (*own, *self.hub[part])

    def file(self, part: Part) -> Path:
        """The file of the rows that are left."""
        return self.folder / f"{part}.swift.jsonl"

    @property
    def uses_hub(self) -> bool:
        """Whether ms-swift has something to download."""
        return any(self.hub.values())

    @property
    def text_only(self) -> bool | None:
        """Whether the rows are plain texts; None if no file says."""
        return next((part.text_only for part in self.files.values()), None)


@dataclass(frozen=True)
class SettledData:
    """What is left to train on, and what became of every row."""

    train_rows: int
    receipts: tuple[DataPrepared, ...]
    library_versions: Mapping[str, str]


def check_sources(run: RunSpec, folder: Path, spool: Spool) -> CheckedSources:
    """Reads and checks all files of the run. Raises RunFailed."""
    asked: dict[Part, Sequence[DataSource]] = {
        "train": run.spec.train_data,
        "eval": run.spec.eval_data,
    }
    hub = {part: _on_a_hub(run, asked[part]) for part in PARTS}
    from_files = replace(run, spec=_without(run.spec, hub))
    files = {}
    for part in PARTS:
        checked = write_checked(from_files, part, folder, spool)
        if checked is not None:
            files[part] = checked
    return CheckedSources(files, hub, folder)


def _on_a_hub(run: RunSpec, asked: Sequence[DataSource]) -> tuple[str, ...]:
    names = []
    for source in asked:
        name, _ = split_limit(source.source)
        if not isinstance(find_data(name, run.data_roots, run.allow_hub), HubId):
            continue
        if source.split:
            raise data_failure(
                f"{source.source} is a data set on a hub, of which ms-swift takes no part by name"
                f" ({source.split!r})",
                "Leave out the split, or download the data set and give its files.",
            )
        names.append(source.source)
    return tuple(names)


def _without(spec: JobSpec, hub: Mapping[Part, Sequence[str]]) -> JobSpec:
    """The spec with files alone."""
    left = JobSpec()
    left.CopyFrom(spec)
    lists: dict[Part, Any] = {"train": left.train_data, "eval": left.eval_data}
    for part, sources in lists.items():
        kept = [source for source in sources if source.source not in hub[part]]
        del sources[:]
        sources.extend(kept)
    return left


@dataclass(frozen=True)
class _Look:
    """One thing to look at, and where what is said of it goes."""

    part: Part
    source: str
    verdicts: Path

    def request(self, checked: CheckedSources) -> dict[str, str]:
        asked = {"name": self.part, "verdicts": str(self.verdicts)}
        if self.source:
            return {**asked, "dataset": self.source}
        return {**asked, "rows": str(checked.files[self.part].path)}


class Prepass:
    """The look at the rows. Its program is started beforehand: it takes seconds to be ready,
    in which the files can be checked."""

    def __init__(self, program: Program, run: RunSpec, spool: Spool) -> None:
        self._program = program
        self._run = run
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
            found = self._sieve(look, checked, verdicts)
            tallies += found
            rows[look.part] += sum(tally.rows_kept for tally in found)
            look.verdicts.unlink()
        receipts = settle(tallies, self._spool, max_dropped_fraction(self._run))
        return SettledData(rows["train"], receipts, versions)

    def _ask(self, looks: Sequence[_Look], checked: CheckedSources, argv: Sequence[str]) -> None:
        parts = [look.request(checked) for look in looks]
        request = {
            "argv": list(argv),
            "parts": parts,
            "trusted": self._run.trust_remote_code or not checked.uses_hub,
        }
        self._program.ask(json.dumps(request).encode() + b"\n")
        relay = Relay(self._program)
        while (code := self._program.poll()) is None:
            relay.pump(TURN_SECONDS)
        relay.drain()
        if code != 0:
            raise ExitedWithoutWords(code)

    def _sieve(
        self, look: _Look, checked: CheckedSources, verdicts: Iterator[Verdict]
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
                if self._judge(part.tally_of(number), place, verdict):
                    left.write(json.dumps(row, ensure_ascii=False) + "\n")
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
        reason = DROPPED.get(verdict.fate)
        if reason is None:
            cut = verdict.fate is Fate.TRUNCATED
            tally.keep(verdict.tokens, verdict.supervised_tokens, truncated=cut)
            return True
        if verdict.fate is Fate.REFUSED and self._run.spec.strict:
            raise data_failure(
                f"{place}: ms-swift's template does not take this row: {verdict.why}",
                "Correct the data file, or set strict to false to leave such rows out.",
            )
        tally.drop(reason, place)
        return False

    def _tell_blind(self, look: _Look, why: str) -> None:
        text = f"the {look.part} rows could not be looked at beforehand: {why}"
        self._spool.event("ROWS_NOT_LOOKED_AT", text, SEVERITY_WARNING, part=look.part)


def _looks(checked: CheckedSources) -> Iterator[_Look]:
    for part in PARTS:
        if part in checked.files:
            yield _Look(part, "", checked.folder / f"{part}.verdicts.jsonl")
        for number, source in enumerate(checked.hub[part]):
            yield _Look(part, source, checked.folder / f"{part}-{number}.verdicts.jsonl")


def read_verdicts(path: Path) -> tuple[dict[str, Any], Iterator[Verdict]]:
    """What the script wrote: its header, and a verdict for each row."""
    with path.open(encoding="utf-8") as file:
        header: dict[str, Any] = json.loads(file.readline())
    return header, _verdicts(path)


def _verdicts(path: Path) -> Iterator[Verdict]:
    with path.open(encoding="utf-8") as file:
        next(file)
        for line in file:
            tokens, supervised, fate, why = json.loads(line)
            yield Verdict(tokens, supervised, Fate(fate), why)
