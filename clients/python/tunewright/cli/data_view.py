"""How a data check is shown while it goes on, and at its end."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from tunewright.cli import data_words
from tunewright.cli.output import json_line, note, print_table, say
from tunewright.data_report import DataReport
from tunewright.v1 import data_service_pb2, feed_pb2

_CLEAR_LINE = "\r\x1b[2K"


class DataView(Protocol):
    """Shows the messages of one check."""

    def show(self, message: data_service_pb2.CheckDataResponse) -> None:
        """One message, as it comes."""

    def conclude(self, report: DataReport) -> None:
        """All of them, at the end."""


class JsonDataView:
    """One message as a JSON object on each line."""

    def show(self, message: data_service_pb2.CheckDataResponse) -> None:
        """Prints it."""
        say(json_line(message))

    def conclude(self, report: DataReport) -> None:
        """Nothing is left to say."""


class PlainDataView:
    """What a person reads: a table, the problems, rows, and the verdict at the end."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._marks = data_words.COLOURS if coloured else data_words.MARKS

    def show(self, message: data_service_pb2.CheckDataResponse) -> None:
        """How far it is, on a terminal; warnings at once."""
        if message.HasField("progress"):
            self._draw(data_words.progress_line(message.progress))
        elif message.event.severity >= feed_pb2.SEVERITY_WARNING:
            self._draw("")
            note(data_words.event_line(message.event))
        elif message.HasField("event"):
            self._draw(data_words.event_line(message.event))

    def conclude(self, report: DataReport) -> None:
        """Prints everything."""
        self._draw("")
        if report.sources:
            rows = [data_words.source_row(source) for source in report.sources]
            print_table(data_words.HEADER, rows)
            say("lengths: tokens of a row before it is cut, shortest / median / 95 % / longest")
        self._section(
            "problems",
            [line for one in report.sources for line in data_words.problem_lines(one)],
        )
        trained = "in colour" if self._marks == data_words.COLOURS else "in [[ ]]"
        self._section(
            f"first rows; what is trained is {trained}",
            [line for row in report.rows for line in data_words.row_lines(row, self._marks)],
        )
        if not report.rows:
            say()
        for line in data_words.verdict_lines(report.verdict):
            say(line)
        say(f"checked on {report.started.trainer}")

    def _section(self, title: str, lines: list[str]) -> None:
        if lines:
            say()
            say(title)
            for line in lines:
                say(f"  {line}".rstrip())

    def _draw(self, text: str) -> None:
        if self._live:
            sys.stderr.write(_CLEAR_LINE + text)
            sys.stderr.flush()
