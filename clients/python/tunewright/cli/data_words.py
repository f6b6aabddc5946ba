"""What a data check says, in lines for people. Pure.

Texts of rows come from files that anybody may have written: what would move a
terminal's cursor is spelled out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from tunewright.cli import words
from tunewright.job import failure_text
from tunewright.v1 import data_service_pb2, feed_pb2, job_pb2

HEADER = ("PART", "SOURCE", "READ", "KEPT", "CUT", "DROPPED", "TOKENS", "TRAINED", "LENGTHS")
# Around what is trained, where there is no colour.
MARKS = ("[[", "]]")
_BOLD_GREEN, _PLAIN = "\x1b[1;32m", "\x1b[0m"
# They join the characters of an emoji, or of a script; a terminal does nothing about them.
_HARMLESS = "\n\t\u200c\u200d"
COLOURS = (_BOLD_GREEN, _PLAIN)


def source_row(report: data_service_pb2.SourceReport) -> tuple[str, ...]:
    """One source as a row below HEADER."""
    receipt = report.receipt
    dropped = sum(one.count for one in receipt.dropped)
    lengths = "not measured"
    if report.HasField("lengths"):
        found = report.lengths
        lengths = " / ".join(
            words.count(one) for one in (found.min, found.median, found.p95, found.max)
        )
    numbers = (receipt.rows_read, receipt.rows_kept, receipt.rows_truncated, dropped)
    tokens = (receipt.tokens, receipt.supervised_tokens)
    return (
        receipt.part,
        printable(receipt.source),
        *map(words.count, numbers),
        *map(words.count, tokens),
        lengths,
    )


def problem_lines(report: data_service_pb2.SourceReport) -> Iterator[str]:
    """Each reason, how many rows, and the first of them."""
    for problem in report.problems:
        rows = "row" if problem.count == 1 else "rows"
        reason = problem.reason.replace("_", " ")
        yield (
            f"{words.count(problem.count)} {rows} {reason}"
            f" ({report.receipt.part}, {printable(report.receipt.source)})"
        )
        for place in problem.first:
            told = f": {printable(_one_line(place.message))}" if place.message else ""
            yield f"  {printable(_short(place.place))}{told}"
        left = problem.count - len(problem.first)
        if left:
            yield f"  and {words.count(left)} more"


def row_lines(row: data_service_pb2.ShownRow, marks: Sequence[str]) -> Iterator[str]:
    """A row: where it is, and its text with `marks` around what is trained."""
    cut = ", cut at max_length" if row.truncated else ""
    yield (
        f"{printable(_short(row.place))} ({row.part}): {words.count(row.tokens)} tokens,"
        f" {words.count(row.supervised_tokens)} trained{cut}"
    )
    text = marked_text(row.segments, marks)
    for line in text.removesuffix("\n").split("\n"):
        yield f"  {line}"
    yield ""


def marked_text(segments: Iterable[data_service_pb2.RowSegment], marks: Sequence[str]) -> str:
    """The text of a row. A colour is begun again on each line, which may be shown alone."""
    begin, end = marks
    text = ""
    for segment in segments:
        told = printable(_segment_text(segment))
        if segment.trained and told:
            if marks == COLOURS:
                told = told.replace("\n", f"{end}\n{begin}")
            told = f"{begin}{told}{end}"
        text += told
    return text.replace(f"{end}{begin}", "")


def event_line(event: feed_pb2.Event) -> str:
    """What is worth knowing."""
    marks = {feed_pb2.SEVERITY_WARNING: "warning: ", feed_pb2.SEVERITY_ERROR: "error: "}
    return marks.get(event.severity, "") + printable(_one_line(event.message))


def verdict_lines(verdict: data_service_pb2.DataVerdict) -> Iterator[str]:
    """Whether a job would train, and why it would not."""
    if verdict.accepted:
        steps = f": {words.count(verdict.total_steps)} steps" if verdict.total_steps else ""
        yield f"ACCEPTED  a job with this data would begin to train{steps}"
    else:
        yield f"REFUSED  a job with this data would fail: {_failure(verdict.failure)}"
    for other in verdict.more_failures:
        yield f"also: {_failure(other)}"
    if verdict.not_checked:
        yield "not checked: " + "; ".join(verdict.not_checked)


def progress_line(progress: data_service_pb2.DataCheckProgress) -> str:
    """How far it is."""
    if not progress.stage:
        return progress.phase
    of_all = f" of {words.count(progress.rows_total)}" if progress.rows_total else ""
    return (
        f"{progress.stage} {progress.part} data: {words.count(progress.rows_done)}{of_all} rows of"
        f" {printable(_short(progress.source))}"
    )


def printable(text: str) -> str:
    """The text, with every character spelled out that a terminal would act on."""
    return "".join(
        one if one in _HARMLESS or one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )


def _segment_text(segment: data_service_pb2.RowSegment) -> str:
    if segment.omitted:
        return f"\n… {words.count(segment.tokens)} tokens not shown …\n"
    if segment.repeats > 1:
        return f"{segment.text}(x {words.count(segment.repeats)})"
    return segment.text


def _failure(failure: job_pb2.Failure) -> str:
    return printable(_one_line(failure_text(failure)))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _short(place: str) -> str:
    """ "file.jsonl:17": the folder is in the table above."""
    return os.path.basename(place) or place
