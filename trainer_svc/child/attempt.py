"""The training process of an attempt, whatever trains in it.

Owns what all backends share: the spool, stop requests, the last words in
result.json and in the spool, the exit code. What trains is an Attempt. An
ExitedWithoutWords leaves result.json unwritten and passes its code on, so that
the trainer service judges the end from the output.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunewright.v1.feed_pb2 import SEVERITY_ERROR

from trainer_svc.child.durable import remove_tree
from trainer_svc.child.failure import Failure, Phase, RunFailed, explain
from trainer_svc.child.result import Ending, Outcome, write_result
from trainer_svc.child.run_spec import RunSpec, read_run_spec
from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopMode, StopNow, StopRequests


class Attempt(Protocol):
    """What trains. Its properties are true at any time."""

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        ...

    @property
    def total_steps(self) -> int:
        """Optimizer steps in all; 0 before that is known."""
        ...

    @property
    def step(self) -> int:
        """Optimizer steps done, over all attempts."""
        ...

    def execute(self) -> Ending:
        """Raises RunFailed, StopNow, ExitedWithoutWords, and what the libraries raise."""
        ...

    def close(self) -> None:
        """Removes temporary files; safe to call twice."""
        ...


MakeAttempt = Callable[[RunSpec, Spool, StopRequests], Attempt]


class ExitedWithoutWords(Exception):
    """A program that this process ran has ended by itself; its output says why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


def run_child(arguments: Sequence[str], program: str, make: MakeAttempt) -> int:
    """Runs the attempt in the run folder, the only argument. The exit code."""
    if len(arguments) != 1:
        print(f"usage: python -m {program} RUN_FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).resolve()
    try:
        spec = read_run_spec(folder)
    except RunFailed as error:
        traceback.print_exc()
        write_result(folder, Ending(Outcome.FAILED, failure=explain(error, Phase.STARTING)))
        return 1
    return Child(spec, make).execute()


def leave(exit_code: int) -> None:
    """Ends the process. All that matters is on disk by now; taking the libraries down in
    order would cost seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def stop_behind(error: BaseException) -> StopNow | None:
    """The stop request that `error` took the place of, if any: a library that cleans up while
    StopNow unwinds may raise something of its own."""
    link: BaseException | None = error
    seen: list[BaseException] = []
    while link is not None and link not in seen:
        if isinstance(link, StopNow):
            return link
        seen.append(link)
        link = link.__cause__ or link.__context__
    return None


class Child:
    """One attempt, from its spec to its result.json."""

    def __init__(self, spec: RunSpec, make: MakeAttempt) -> None:
        self._spec = spec
        self._ending = threading.Lock()
        self._spool = Spool(spec.paths.run / "spool.jsonl")
        self._stop = StopRequests(spec.paths.run, self._on_overdue)
        self._run = make(spec, self._spool, self._stop)

    def execute(self) -> int:
        """Never raises an Exception; the exit code."""
        try:
            self._stop.install()
            ending = self._run.execute()
        except StopNow as stop:
            ending = self._stopped(stop.mode)
        except ExitedWithoutWords as error:
            return self._end_without_words(error.exit_code)
        except Exception as error:
            requested = stop_behind(error)
            if requested is None:
                traceback.print_exc()
                ending = self._failed(explain(error, self._run.phase))
            else:
                ending = self._stopped(requested.mode)
        return self._end(ending)

    def _stopped(self, mode: StopMode) -> Ending:
        print(f"stopped on request: {mode}", flush=True)
        return Ending(Outcome.STOPPED, self._run.step, self._run.total_steps)

    def _failed(self, failure: Failure) -> Ending:
        return Ending(Outcome.FAILED, self._run.step, self._run.total_steps, failure)

    def _end(self, ending: Ending) -> int:
        with self._ending:
            self._stop.close()
            self._clean(ending.outcome)
            try:
                self._tell(ending)
                write_result(self._spec.paths.run, ending)
            except OSError as error:  # the disk filled up at the very end
                traceback.print_exc()
                ending = self._failed(explain(error, Phase.RESULT))
                remove_tree(self._spec.paths.staging)
                write_result(self._spec.paths.run, ending)
        return 1 if ending.outcome is Outcome.FAILED else 0

    def _end_without_words(self, exit_code: int) -> int:
        with self._ending:
            self._stop.close()
            self._clean(Outcome.FAILED)
        return exit_code

    def _tell(self, ending: Ending) -> None:
        details: dict[str, Any] = {"outcome": ending.outcome, "step": ending.step}
        if ending.failure is None:
            text = f"{ending.outcome.lower()} at step {ending.step} of {ending.total_steps}"
            self._spool.event("ENDED", text, **details)
            return
        failure = ending.failure
        details |= {"cause": failure.cause, "hint": failure.hint}
        details |= {"exception_type": failure.exception_type}
        self._spool.event("FAILED", failure.message, SEVERITY_ERROR, **details)

    def _clean(self, outcome: Outcome) -> None:
        """Temporary files go before the last words are written: the disk may be full."""
        self._run.close()
        if outcome is not Outcome.COMPLETED:
            remove_tree(self._spec.paths.staging)

    def _on_overdue(self, mode: StopMode) -> None:
        """In a thread: StopNow does not get through, so the process ends here and now."""
        if not self._ending.acquire(blocking=False):
            return  # it did get through
        self._clean(Outcome.STOPPED)
        write_result(self._spec.paths.run, self._stopped(mode))
        os._exit(0)
