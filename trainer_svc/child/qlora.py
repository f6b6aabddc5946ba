"""The training process of a QLoRA run: python -m trainer_svc.child.qlora RUN_FOLDER

Owns what its libraries read from the environment. What it does, in which
order, is run.py; how it starts, is stopped and ends, attempt.py. Drawn in
ARCHITECTURE.md.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence

from trainer_svc.child.attempt import leave, run_child
from trainer_svc.child.library_notices import silence_known_notices
from trainer_svc.child.run import Run
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopRequests


def main(arguments: Sequence[str]) -> int:
    """Runs the attempt in the run folder, the only argument. The exit code."""
    return run_child(arguments, "trainer_svc.child.qlora", make_run)


def make_run(spec: RunSpec, spool: Spool, stop: StopRequests) -> Run:
    """The run, in a process whose environment is ready for it."""
    set_environment(spec)
    # Processes that load batches have to be forks, also where Python would start them in another
    # way: only these keep a step that is being finished from a stop request (stopping.py).
    multiprocessing.set_start_method("fork", force=True)
    silence_known_notices()
    return Run(spec, spool, stop)


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
    leave(main(sys.argv[1:]))
