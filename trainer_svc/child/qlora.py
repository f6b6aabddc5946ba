"""The training process of a QLoRA run: python -m trainer_svc.child.qlora RUN_FOLDER

Owns the order of things: find model and data, prepare the data, only then load
the model, train, stage the result, say how it ended. Reports in spool.jsonl;
result.json is the last word. Exit code 0 unless the run failed. Drawn in
ARCHITECTURE.md.
"""

import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.v1.feed_pb2 import SEVERITY_ERROR

from trainer_svc.child.durable import remove_tree
from trainer_svc.child.failure import Failure, Phase, RunFailed, explain
from trainer_svc.child.result import Ending, Outcome, write_result
from trainer_svc.child.run import Run
from trainer_svc.child.run_spec import RunSpec, read_run_spec
from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopMode, StopNow, StopRequests


def main(arguments: Sequence[str]) -> int:
    """Runs the attempt in the run folder, the only argument. The exit code."""
    if len(arguments) != 1:
        print("usage: python -m trainer_svc.child.qlora RUN_FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).resolve()
    try:
        spec = read_run_spec(folder)
    except RunFailed as error:
        traceback.print_exc()
        write_result(folder, Ending(Outcome.FAILED, failure=explain(error, Phase.STARTING)))
        return 1
    return Child(spec).execute()


class Child:
    """One run, from its spec to its result.json."""

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._ending = threading.Lock()
        self._spool = Spool(spec.paths.run / "spool.jsonl")
        self._stop = StopRequests(spec.paths.run, self._on_overdue)
        self._run = Run(spec, self._spool, self._stop)

    def execute(self) -> int:
        """Never raises an Exception; the exit code."""
        try:
            self._stop.install()
            set_environment(self._spec)
            ending = self._run.execute()
        except StopNow as stop:
            ending = self._stopped(stop.mode)
        except Exception as error:
            traceback.print_exc()
            ending = self._failed(explain(error, self._run.phase))
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


def set_environment(spec: RunSpec) -> None:
    """What the libraries read from the environment when they are imported."""
    if not spec.allow_hub:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for bars in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ[bars] = "1"
    if spec.use_cpu:
        # Threads that wait by spinning take the cores from the services on this host.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Encoding has processes of its own; threads under them would only get in their way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # All that matters is on disk. Taking the libraries down in order would cost seconds.
    os._exit(exit_code)
