"""Passes on what a program of ms-swift's prints, and shows it to whoever reads it.

Owns our own standard output meanwhile. Bars that are redrawn are thinned out. A
reader that has gone loses output, never the run.
"""

import os
import sys
import time
from contextlib import suppress

from trainer_svc.child.swift.output import Line, LineCutter, Thinned
from trainer_svc.child.swift.process import Program


class Relay:
    """The output of one program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._cutter = LineCutter()
        self._thinned = Thinned()

    def pump(self, timeout_seconds: float) -> list[Line]:
        """Passes on what is there, waiting at most so long for some; the lines, and last the
        bar that is being drawn."""
        lines = self._cutter.feed(self._program.read(timeout_seconds))
        self._pass(lines)
        drawn = self._cutter.drawn
        return [*lines, Line(drawn, redrawn=True)] if drawn.strip() else lines

    def drain(self) -> list[Line]:
        """The same for all that is left, once nothing is written any more."""
        lines: list[Line] = []
        while data := self._program.read(0.0):
            lines += self._cutter.feed(data)
        lines += self._cutter.close()
        self._pass(lines)
        return lines

    def _pass(self, lines: list[Line]) -> None:
        now = time.monotonic()
        kept = [line.text for line in lines if self._thinned.keeps(line, now)]
        data = "".join(f"{text}\n" for text in kept).encode()
        sys.stdout.flush()
        with suppress(OSError):
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
