"""What a data check notes, and says at its end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trainer_svc.child.data_check.findings import MORE_FAILURES_MAX, PLACES_MAX, Findings
from trainer_svc.child.data_check.lengths import Lengths
from trainer_svc.child.data_check.report import Report, ReportSpool
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.inspection import IGNORED, KeptRow
from trainer_svc.child.progress import DataProgress
from trainer_svc.child.receipts import Tally

Said = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def pipe() -> Iterator[tuple[Report, Said]]:
    """A report, and what was said in it, once it is complete."""
    reading, writing = os.pipe()
    open_ends = {reading, writing}

    def said() -> list[dict[str, Any]]:
        os.close(writing)
        open_ends.discard(writing)
        with os.fdopen(reading, "rb") as stream:
            open_ends.discard(reading)
            return [json.loads(line) for line in stream]

    yield Report(writing), said
    for one in open_ends:
        os.close(one)


def tally(name: str = "a.jsonl") -> Tally:
    return Tally("train", name, f"/data/{name}", 8)


def failed(message: str) -> RunFailed:
    return RunFailed(Cause.DATASET_INVALID, message, "Correct it.")


def kept(place: str, length: int = 3) -> KeptRow:
    labels = [IGNORED, *range(1, length)]
    return KeptRow(place, length, length - 1, False, length, list(range(length)), labels)


def test_lengths_are_exact() -> None:
    lengths = Lengths()
    for length in [*range(1, 101)][::-1]:
        lengths.add(length)

    found = lengths.summary()

    assert found is not None
    assert (found.rows, found.min, found.median, found.p95, found.max) == (100, 1, 50, 95, 100)
    assert Lengths().summary() is None


def test_rows_are_shown_as_many_as_asked_for_of_each_source(pipe: tuple[Report, Said]) -> None:
    report, said = pipe
    findings = Findings(report, rows_shown=2)
    findings.decode = lambda ids: "".join(chr(97 + one) for one in ids)
    one, other = tally(), tally()

    for source in (one, other):
        for number in range(4):
            assert findings.shows(source) == (number < 2)
            source.rows_read += 1
            findings.read(source)
            findings.keep(source, kept(f"{number}"))
    findings.conclude(7)

    messages = said()
    rows = [message["row"] for message in messages if "row" in message]
    assert [row["place"] for row in rows] == ["0", "1", "0", "1"]
    texts = [(one["text"], one.get("trained", False)) for one in rows[0]["segments"]]
    assert texts == [("a", False), ("bc", True)]
    assert messages[-1]["verdict"]["total_steps"] == "7"
    assert [message["source"]["receipt"]["rows_read"] for message in messages[-3:-1]] == ["4"] * 2


def test_the_first_refusal_is_the_failure_and_rows_are_named_once(
    pipe: tuple[Report, Said],
) -> None:
    report, said = pipe
    findings = Findings(report, rows_shown=0)
    source = tally()

    findings.refuse(failed("no file"))
    for number in range(PLACES_MAX + 5):
        source.rows_read += 1
        findings.refuse_row(failed(f"row {number}"))
        findings.drop(source, "malformed", f"p{number}", f"p{number}: bad\ud800" + "x" * 5000)
    findings.require_enough(source, 0.0)
    for number in range(30):
        findings.refuse(failed(f"other {number}"))
    findings.conclude(9)

    *_, told, verdict = said()
    (problem,) = told["source"]["problems"]
    assert (problem["count"], len(problem["first"])) == (str(PLACES_MAX + 5), PLACES_MAX)
    assert problem["first"][0]["message"].startswith("bad?xx")
    assert len(problem["first"][0]["message"]) == 1000
    found = verdict["verdict"]
    assert found["failure"]["message"] == "no file"
    more = [one["message"] for one in found["more_failures"]]
    assert more[:2] == ["row 0", "other 0"]
    assert len(more) == MORE_FAILURES_MAX
    assert "accepted" not in found
    assert "total_steps" not in found


def test_progress_is_a_message_of_its_own(pipe: tuple[Report, Said]) -> None:
    report, said = pipe
    spool = ReportSpool(report)
    times = iter([0.0, 10.0, 20.0])
    progress = DataProgress(spool.event, clock=lambda: next(times))
    source = tally()
    source.rows_read = 5

    list(progress.reading(iter([1]), source))
    progress.encoded(source, 3, 5)
    spool.event("OTHER", "x" * 10_000)

    first, second, other = said()
    assert first["progress"] == {
        "phase": "preparing data",
        "part": "train",
        "source": "a.jsonl",
        "stage": "reading",
        "rows_done": "5",
    }
    assert (second["progress"]["rows_done"], second["progress"]["rows_total"]) == ("3", "5")
    assert len(other["event"]["message"]) == 4000


def test_nothing_to_train_on_ends_with_the_first_refusal(pipe: tuple[Report, Said]) -> None:
    findings = Findings(pipe[0], rows_shown=0)
    findings.refuse(failed("no file"))

    findings.require_sources(["one"])
    with pytest.raises(RunFailed, match="no file"):
        findings.require_sources([])
