"""Exit codes, and how an error is told: one line each, no traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import IntEnum

from tunewright.cli.option_names import OptionViolation
from tunewright.errors import (
    ApiError,
    ConfigurationError,
    InvalidRequest,
    TunewrightError,
    Violation,
)


class ExitCode(IntEnum):
    """What the shell gets."""

    # The command did what it says; a watched job SUCCEEDED.
    OK = 0
    # A watched job FAILED or was CANCELLED, or a service refused or did not answer.
    FAILED = 1
    # The command line, a file it names, or the request it makes is wrong.
    USAGE = 2
    # Ctrl-C.
    INTERRUPTED = 130


class CommandError(TunewrightError):
    """A command cannot go on; one line says why."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: TunewrightError) -> ExitCode:
    """The exit code that an error leads to."""
    if isinstance(error, CommandError):
        return error.exit_code
    wrong_input = isinstance(error, InvalidRequest | ConfigurationError)
    return ExitCode.USAGE if wrong_input else ExitCode.FAILED


def report(error: TunewrightError, as_json: bool) -> None:
    """Tells an error on stderr: a line per violation, or one JSON object."""
    if as_json:
        print(json.dumps({"error": error_record(error)}, ensure_ascii=False), file=sys.stderr)
        return
    for line in error_lines(error):
        print(f"error: {line}", file=sys.stderr)


def error_lines(error: TunewrightError) -> Sequence[str]:
    """One line per violation, or the message."""
    violations = error.violations if isinstance(error, ApiError) else ()
    if not violations:
        return [" ".join(str(error).split())]
    return [
        f"{named}: {one.description}" if (named := _named(one)) else one.description
        for one in violations
    ]


def error_record(error: TunewrightError) -> dict[str, object]:
    """An error for programs."""
    if not isinstance(error, ApiError):
        return {"reason": "", "code": "", "message": str(error), "metadata": {}, "violations": []}
    return {
        "reason": str(error.reason),
        "code": error.code,
        "message": error.message,
        "metadata": error.metadata,
        "violations": [
            {"field": one.field, "description": one.description} for one in error.violations
        ],
    }


def _named(violation: Violation) -> str:
    """What a person calls the bad field: the option, if one was typed for it."""
    if isinstance(violation, OptionViolation):
        return violation.option
    return short_field(violation.field)


def short_field(path: str) -> str:
    """A field as a person writes it: without the envelope around the spec, or around a YAML."""
    for envelope in ("recipe.yaml: ", "job.spec.", "spec.", "job.", "request."):
        if path.startswith(envelope):
            return path.removeprefix(envelope)
    return path
