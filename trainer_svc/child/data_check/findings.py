"""What a data check notes of the problems and rows that the preparation finds.

Owns the answer to "would a job with this data train?": the first refusal is
what the job would fail with, and everything after it is noted, too. Refuses
nothing but to go on without anything to train on (RunFailed, the first refusal).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tunewright.v1.data_service_pb2 import (
    DataCheckProgress,
    DataProblem,
    DataProblemPlace,
    DataVerdict,
    RowSegment,
    ShownRow,
    SourceReport,
)

from trainer_svc.child.data_check.lengths import Lengths
from trainer_svc.child.data_check.report import Report, clean, failure_message
from trainer_svc.child.failure import Failure, Phase, RunFailed, explain
from trainer_svc.child.inspection import IGNORED, Inspection, KeptRow
from trainer_svc.child.receipts import Tally
from trainer_svc.child.swift.inside.row_segments import Segment, segments_of

PLACES_MAX = 20
MORE_FAILURES_MAX = 20
WHY_CHARS_MAX = 1_000
# Of a longer one the end is told: file and line.
PLACE_CHARS_MAX = 1_000
NOT_CHECKED = (
    "the model's weights: whether they are complete, and whether they fit into a GPU's memory",
    "the output folder, free disk space and the trainer's slots",
)


@dataclass
class _Seen:
    """What was seen of one source."""

    tally: Tally
    lengths: Lengths = field(default_factory=Lengths)
    problems: dict[str, DataProblem] = field(default_factory=dict)
    shown: int = 0
    reported: bool = False


class Findings(Inspection):
    """Notes everything. `decode` makes text of token ids; it is set once there is a tokenizer."""

    def __init__(self, report: Report, rows_shown: int) -> None:
        self.rows_shown = rows_shown
        self.phase = Phase.STARTING
        self.decode: Callable[[Sequence[int]], str] | None = None
        self._report = report
        self._seen: dict[int, _Seen] = {}
        self._failures: list[Failure] = []
        self._row_refused = False

    @property
    def has_read(self) -> bool:
        """Whether any row has been read."""
        return bool(self._seen)

    def enter(self, phase: Phase) -> None:
        """What is done from now on."""
        self.phase = phase
        self._report.progress(DataCheckProgress(phase=phase.value))

    def fail(self, error: Exception) -> None:
        """The preparation cannot go on."""
        self._note(explain(error, self.phase))

    def refuse(self, failure: RunFailed) -> None:
        """Noted: the rest is looked at all the same."""
        self._note(explain(failure, self.phase))

    def refuse_row(self, failure: RunFailed) -> None:
        """Noted once: the others are among the problems of their sources."""
        if not self._row_refused:
            self._row_refused = True
            self._note(explain(failure, self.phase))

    def shows(self, tally: Tally) -> bool:
        """Whether not enough of this source's rows have been shown."""
        return self.decode is not None and self._of(tally).shown < self.rows_shown

    def read(self, tally: Tally) -> None:
        """Remembers the source."""
        self._of(tally)

    def drop(self, tally: Tally, reason: str, place: str, why: str = "", length: int = 0) -> None:
        """Noted, with the first places."""
        super().drop(tally, reason, place, why, length)
        seen = self._of(tally)
        problem = seen.problems.setdefault(reason, DataProblem(reason=reason))
        problem.count += 1
        if len(problem.first) < PLACES_MAX:
            message = clean(why.removeprefix(f"{place}: "), WHY_CHARS_MAX)
            problem.first.append(
                DataProblemPlace(
                    place=clean(place[-PLACE_CHARS_MAX:], PLACE_CHARS_MAX), message=message
                )
            )
        if length:
            seen.lengths.add(length)

    def keep(self, tally: Tally, row: KeptRow) -> None:
        """Measured; shown if it is one of the first."""
        super().keep(tally, row)
        seen = self._of(tally)
        if row.length:
            seen.lengths.add(row.length)
        if seen.shown < self.rows_shown:
            self._show(seen, row)

    def require_sources(self, found: Sequence[object]) -> None:
        """Raises RunFailed if no source of the training data could be opened."""
        if not found and self._failures:
            first = self._failures[0]
            raise RunFailed(first.cause, first.message, first.hint)

    def enough_so_far(self, tally: Tally, max_dropped_fraction: float) -> bool:
        """Always: every row that is left is looked at."""
        return True

    def require_enough(self, tally: Tally, max_dropped_fraction: float) -> None:
        """The source is done: reports it. Too few rows are noted."""
        self._report_source(self._of(tally))
        try:
            super().require_enough(tally, max_dropped_fraction)
        except RunFailed as failure:
            # Rows that have to be corrected anyway are no reason of their own.
            if not self._row_refused:
                self.refuse(failure)

    def conclude(self, total_steps: int) -> None:
        """Says the outcome; the last thing to call."""
        for seen in self._seen.values():
            if not seen.reported:
                self._report_source(seen)
        failures = [failure_message(one) for one in self._failures]
        accepted = not failures
        self._report.verdict(
            DataVerdict(
                accepted=accepted,
                failure=None if accepted else failures[0],
                more_failures=failures[1 : 1 + MORE_FAILURES_MAX],
                total_steps=total_steps if accepted else 0,
                not_checked=NOT_CHECKED,
            )
        )

    def _note(self, failure: Failure) -> None:
        if failure not in self._failures:
            self._failures.append(failure)

    def _of(self, tally: Tally) -> _Seen:
        # By identity: two sources may have the same name and the same counts.
        return self._seen.setdefault(id(tally), _Seen(tally))

    def _show(self, seen: _Seen, row: KeptRow) -> None:
        segments = row.segments or self._segments(row)
        if not segments:
            return
        seen.shown += 1
        self._report.row(
            ShownRow(
                part=seen.tally.part,
                source=seen.tally.source,
                place=row.place,
                tokens=row.tokens,
                supervised_tokens=row.supervised_tokens,
                truncated=row.truncated,
                segments=[_message(segment) for segment in segments],
            )
        )

    def _segments(self, row: KeptRow) -> Sequence[Segment]:
        if self.decode is None or not row.input_ids:
            return ()
        trained = [label != IGNORED for label in row.labels]
        return segments_of(row.input_ids, trained, self.decode)

    def _report_source(self, seen: _Seen) -> None:
        seen.reported = True
        problems = sorted(seen.problems.values(), key=lambda one: -one.count)
        self._report.source(
            SourceReport(
                receipt=seen.tally.receipt(), lengths=seen.lengths.summary(), problems=problems
            )
        )


def _message(segment: Segment) -> RowSegment:
    return RowSegment(
        text=segment.text,
        trained=segment.trained,
        tokens=segment.tokens,
        repeats=segment.repeats,
        omitted=segment.omitted,
    )
