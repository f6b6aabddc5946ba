"""Reads a JSON document value by value, with line numbers, in bounded memory.

Owns a cursor over a file of any size: the caller walks the outer brackets and
takes the values between them whole. Refuses what is not JSON, not UTF-8, or a
single value of more than VALUE_CHARS_MAX characters (JsonBroken, with the line).
"""

import codecs
import json
from typing import Any, BinaryIO

READ_BYTES = 1 << 16
VALUE_CHARS_MAX = 16 << 20
SPACE = " \t\r\n"


class JsonBroken(Exception):
    """Not JSON; `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class JsonCursor:
    """A place in a JSON text. Only forward."""

    def __init__(self, file: BinaryIO, decoding_errors: str = "strict") -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(decoding_errors)
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no space; "" at the end of the file."""
        while True:
            start = self._at
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            self.line += self._text.count("\n", start, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, expected: str) -> None:
        """Goes past `expected`, a single character. Raises JsonBroken."""
        found = self.peek()
        if found != expected:
            there = repr(found) if found else "the end of the file"
            raise JsonBroken(self.line, f"expected {expected!r}, found {there}")
        self._at += 1

    def value(self) -> Any:
        """Goes past the next value and returns it. Raises JsonBroken."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._value_goes_on():
                    continue
                line = self.line + self._text.count("\n", self._at, error.pos)
                raise JsonBroken(line, error.msg) from None
            except RecursionError:
                raise JsonBroken(self.line, "nested too deeply") from None
            except ValueError as error:  # a number of thousands of digits
                raise JsonBroken(self.line, str(error)) from None
            # A number that touches the end of the buffer may go on.
            if end == len(self._text) and self._value_goes_on():
                continue
            self.line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _value_goes_on(self) -> bool:
        return len(self._text) - self._at < VALUE_CHARS_MAX and self._grow()

    def _grow(self) -> bool:
        """Reads on; False at the end. Doubles, so that a long value costs linear time."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        chunk = self._file.read(max(READ_BYTES, len(rest)))
        self._ended = not chunk
        try:
            more = self._decode.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            before = chunk[: error.start].count(b"\n")
            raise JsonBroken(self.line + rest.count("\n") + before, "not UTF-8") from None
        self._text, self._at = rest + more, 0
        return bool(more) or not self._ended
