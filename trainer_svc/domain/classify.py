"""The end of a run: from what is left behind to outcome, cause and hint.

Pure. Looks, in this order, at what the child said itself (result.json), at
what it was asked (stop.json), at how it ended (exit.json), and at what it
printed last.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace

from trainer_svc.domain.failure_messages import (
    HINTS,
    cause_of,
    hint_of,
    last_exception,
    last_known_line,
    worker_was_killed,
)
from trainer_svc.domain.runs import Cause, Ending, Failure, RunOutcome, StopMode

_MESSAGE_CHARS_MAX = 2000
# What drivers, the kernel and other ranks say by themselves. Of anything else only an
# exception counts: libraries warn of modules and of remote code in runs that go well.
_TOLD_WITHOUT_A_TRACEBACK = frozenset(
    {
        Cause.GPU_FAULT,
        Cause.GPU_OUT_OF_MEMORY,
        Cause.HOST_OUT_OF_MEMORY,
        Cause.DISTRIBUTED,
        Cause.DISK_FULL,
    }
)
# What a shell, or a launcher, makes of a child that was ended by a signal.
_EXIT_OF_SIGNAL = 128
_EXIT_OF_SIGKILL = _EXIT_OF_SIGNAL + signal.SIGKILL


@dataclass(frozen=True)
class ExitRecord:
    """What the shim says of the end: exactly one of code and signal is set, or none
    when the child was never started. `oom_kills` counts what the kernel's memory
    killer ended here meanwhile."""

    exit_code: int | None
    signal: int | None
    killed_by_us: bool
    oom_kills: int = 0

    @property
    def code(self) -> int | None:
        """The exit code, or the negative number of the signal."""
        return -self.signal if self.signal else self.exit_code

    @property
    def killed_from_outside(self) -> bool:
        """Ended by a SIGKILL that the shim did not send."""
        sigkill = self.signal == signal.SIGKILL or self.exit_code == _EXIT_OF_SIGKILL
        return sigkill and not self.killed_by_us


@dataclass(frozen=True)
class ResultRecord:
    """What the child says of its own end."""

    outcome: str
    failure: Mapping[str, str] | None = None


@dataclass(frozen=True)
class EndFacts:
    """All that a run has left behind. `exit` is None when the shim did not live to write it;
    `lost` then says why nobody can tell what became of it (the host was restarted)."""

    exit: ExitRecord | None
    result: ResultRecord | None = None
    stop: StopMode | None = None
    tail: str = ""
    lost: str = ""


def classify(facts: EndFacts) -> Ending:
    """How a run ended whose processes are all gone."""
    if facts.result is not None and facts.result.outcome == "COMPLETED":
        return _completed(facts)
    if facts.stop is StopMode.TIMEOUT:
        return _failed(facts, Cause.RUN_TIMEOUT, "run_timeout has passed")
    if facts.stop is not None and _stopped_as_asked(facts):
        return Ending(RunOutcome.STOPPED)
    if facts.result is not None and facts.result.failure is not None:
        return Ending.failed(_told(facts, facts.result.failure))
    return Ending.failed(_found(facts))


def _completed(facts: EndFacts) -> Ending:
    """A fenced run is never published, also when it was done before the stop reached it."""
    fenced = facts.stop is StopMode.FENCE
    return Ending(RunOutcome.STOPPED if fenced else RunOutcome.COMPLETED)


def _stopped_as_asked(facts: EndFacts) -> bool:
    """False for a run that failed while it paused: the scheduler must know what to expect
    of a resume. After a cancel or a fence it does not matter how it ended."""
    if facts.stop is not StopMode.PAUSE or facts.exit is None:
        return True
    if facts.result is not None:
        return facts.result.failure is None
    ended = facts.exit
    return ended.killed_by_us or ended.signal == signal.SIGTERM or ended.code is None


def _told(facts: EndFacts, told: Mapping[str, str]) -> Failure:
    """The child's own account; the table only helps where the child knew no cause."""
    message = told.get("message", "")
    exception_type = told.get("exception_type", "")
    cause = _known_cause(told.get("cause", ""))
    if cause is Cause.INTERNAL:
        cause = cause_of(f"{exception_type}: {message}") or cause
    return Failure(
        cause,
        message[:_MESSAGE_CHARS_MAX],
        told.get("hint", "") or HINTS[cause],
        exception_type,
        facts.exit.code if facts.exit else None,
    )


def _found(facts: EndFacts) -> Failure:
    """The end of a child that left no account of its own."""
    ended = facts.exit
    if ended is None and facts.lost:
        return _failure(facts, Cause.LOST, facts.lost)
    known = last_known_line(facts.tail)
    if ended is None and known is not None and known[0] is Cause.DISK_FULL:
        return _failure(facts, *known)  # a full disk is also why there is no exit.json
    if ended is None:
        return _failure(facts, Cause.CRASHED, "the shim ended without a word; its tree was ended")
    if ended.killed_from_outside or worker_was_killed(facts.tail):
        return _killed(facts, ended)
    seen = last_exception(facts.tail)
    if seen is not None:
        cause = cause_of(seen.text) or Cause.INTERNAL
        return replace(_failure(facts, cause, seen.text), exception_type=seen.type_name)
    if known is not None and ended.code != 0 and known[0] in _TOLD_WITHOUT_A_TRACEBACK:
        return _failure(facts, *known)
    return _failure(facts, Cause.CRASHED, _wordless(ended))


def _killed(facts: EndFacts, ended: ExitRecord) -> Failure:
    if ended.oom_kills > 0:
        message = "the kernel ended the training process because the host ran out of memory"
        return _failure(facts, Cause.HOST_OUT_OF_MEMORY, message)
    known = last_known_line(facts.tail)
    if known is not None and known[0] in (Cause.HOST_OUT_OF_MEMORY, Cause.GPU_OUT_OF_MEMORY):
        return _failure(facts, *known)
    return _failure(facts, Cause.CRASHED, "the training process was ended by SIGKILL from outside")


def _wordless(ended: ExitRecord) -> str:
    if ended.signal:
        return f"the training process was ended by {_signal_name(ended.signal)}"
    if ended.exit_code is None:
        return "the training process could not be started"
    if ended.exit_code > _EXIT_OF_SIGNAL:  # as a launcher passes it on
        name = _signal_name(ended.exit_code - _EXIT_OF_SIGNAL)
        return f"the training process was ended by {name}"
    return f"the training process ended with exit code {ended.exit_code} and left no result"


def _failed(facts: EndFacts, cause: Cause, message: str) -> Ending:
    return Ending.failed(_failure(facts, cause, message))


def _failure(facts: EndFacts, cause: Cause, message: str) -> Failure:
    code = facts.exit.code if facts.exit else None
    hint = hint_of(cause, message)
    return Failure(cause, message[:_MESSAGE_CHARS_MAX], hint, exit_code=code)


def _known_cause(name: str) -> Cause:
    try:
        return Cause(name)
    except ValueError:
        return Cause.INTERNAL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
