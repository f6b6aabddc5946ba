"""The training process of an ms-swift run: python -m trainer_svc.child.swift RUN_FOLDER

ms-swift lives in an environment of its own and runs below this process, which
imports none of the training libraries. Drawn in ARCHITECTURE.md.
"""

import sys
from collections.abc import Sequence

from trainer_svc.child.attempt import leave, run_child
from trainer_svc.child.swift.run import Run


def main(arguments: Sequence[str]) -> int:
    """Runs the attempt in the run folder, the only argument. The exit code."""
    return run_child(arguments, "trainer_svc.child.swift", Run)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
