"""The process of a data check: python -m trainer_svc.child.data_check FOLDER ROWS_SHOWN

FOLDER holds spec.json, as a run folder does, and is this process's alone. Owns
its standard output, which is the report; what libraries print goes to standard
error. Its standard input stays open as long as somebody wants the report: when
it closes, whether the call was ended or the trainer service was killed, this
process ends with everything below it, and removes FOLDER.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from trainer_svc.child.attempt import ExitedWithoutWords, leave
from trainer_svc.child.data_check.checks import check
from trainer_svc.child.data_check.findings import Findings
from trainer_svc.child.data_check.report import Report, ReportSpool
from trainer_svc.child.durable import remove_tree
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.qlora import set_environment
from trainer_svc.child.run_spec import read_run_spec
from trainer_svc.child.swift.process import adopt_orphans

WAIT_SECONDS = 5.0


def main(arguments: Sequence[str]) -> int:
    """Checks; the exit code. It is 0 if the verdict is whole, whatever that says, and that of
    ms-swift's program where its output has something to add."""
    if len(arguments) != 2 or not arguments[1].isdecimal():
        print("usage: python -m trainer_svc.child.data_check FOLDER ROWS_SHOWN", file=sys.stderr)
        return 2
    folder = Path(arguments[0]).resolve()
    report = Report(take_standard_output())
    adopt_orphans()
    ender = threading.Thread(target=end_with_input, args=(folder,), daemon=True)
    ender.start()
    findings = Findings(report, int(arguments[1]))
    try:
        run = read_run_spec(folder)
        set_environment(run)
        check(run, ReportSpool(report), findings)
    except ExitedWithoutWords as error:
        return error.exit_code
    except BrokenPipeError:
        ender.join(WAIT_SECONDS)  # nobody reads the report any more: it ends this process
        return 1
    except RunFailed:
        traceback.print_exc()
        return 1
    return 0


def take_standard_output() -> int:
    """A descriptor that leads to standard output; whoever prints from now on prints elsewhere."""
    kept = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return kept


def end_with_input(folder: Path) -> None:
    """Waits for the end of standard input; then ends this process and all below it."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    while below := psutil.Process().children(recursive=True):
        for process in below:
            with suppress(psutil.Error):
                process.kill()
                process.wait(WAIT_SECONDS)
    remove_tree(folder)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
