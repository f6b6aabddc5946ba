"""One training run through ms-swift, step by step.

Owns the order from a run that is ready (preparation.py) to its result: start
`swift` and follow it. Its exit code and a checkpoint at the last step make a
success, nothing else does. A `swift` that
fails by itself is not explained here (ExitedWithoutWords): its output tells.
Refuses to call a run done that trained nothing (RunFailed, NOTHING_TO_TRAIN).
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tunewright.v1.feed_pb2 import SEVERITY_ERROR

from trainer_svc.child.attempt import ExitedWithoutWords
from trainer_svc.child.checkpoints import Checkpoint, CheckpointStore, best_of
from trainer_svc.child.durable import remove_tree
from trainer_svc.child.failure import Cause, Phase, RunFailed
from trainer_svc.child.model import BaseModel
from trainer_svc.child.result import About, Ending, Outcome, stage
from trainer_svc.child.run_spec import RunSpec, SwiftEnvironment
from trainer_svc.child.spool import Spool
from trainer_svc.child.starting_point import find_start, require_within
from trainer_svc.child.steps import steps_per_epoch, total_steps
from trainer_svc.child.stopping import StopRequests
from trainer_svc.child.swift.data import CheckedSources, SettledData
from trainer_svc.child.swift.environment import devices, training_environment
from trainer_svc.child.swift.follow import Hands, Watch
from trainer_svc.child.swift.intake import Intake, link_for_resume
from trainer_svc.child.swift.preparation import Command, Places, Preparation, Ready
from trainer_svc.child.swift.process import Program, Tree
from trainer_svc.child.swift.processing_files import copy_processing

# ms-swift's own account of how it trained; it reads them again to merge or to go on.
SWIFT_FILES = ("args.json", "additional_config.json")


class Run:
    """One attempt. `phase`, `step` and `total_steps` are true at any time."""

    def __init__(self, spec: RunSpec, spool: Spool, stop: StopRequests) -> None:
        self._spec = spec
        self._wanted = spec.spec.hyperparameters
        self._spool = spool
        self._stop = stop
        self._tree = Tree()
        self._cache = spec.paths.cache / f"{spec.job_id}-{spec.attempt}"
        self._store = CheckpointStore(
            spec.paths.checkpoints, spec.job, spec.attempt, self._wanted.save_total_limit
        )
        self._output = self._store.scratch / "swift"
        self._watch: Watch | None = None
        self._resumed_at = 0
        self._expected_steps = 0
        self.phase = Phase.STARTING

    @property
    def step(self) -> int:
        """Optimizer steps done, over all attempts."""
        return self._watch.step if self._watch is not None else self._resumed_at

    @property
    def total_steps(self) -> int:
        """Steps in all; ms-swift's own word counts."""
        return self._watch.total_steps if self._watch is not None else self._expected_steps

    def close(self) -> None:
        """Ends every process below and removes temporary files; safe to call twice."""
        self._tree.end()
        self._store.close()
        remove_tree(self._cache)

    def execute(self) -> Ending:
        """Raises RunFailed, StopNow, ExitedWithoutWords, OSError."""
        places = Places(self._cache, self._output)
        ready = Preparation(self._spec, places, self._tree, self._spool).execute(self._enter)
        base, command, data = ready.base, ready.command, ready.data
        rows = data.train_rows // devices(self._spec)
        self._expected_steps = total_steps(rows, self._wanted)
        self.phase = Phase.RESUME
        start = find_start(self._store, self._spec.resume, self._spool)
        self._resumed_at = start.step if start is not None else 0
        result = _Result(self._spec, base, data, command)
        if not self._wanted.packing:  # else only ms-swift knows how many steps there are
            require_within(start, self._expected_steps)
            if start is not None and start.step == self._expected_steps:
                return self._nothing_left(start, result)
            command.evaluate_every(steps_per_epoch(rows, self._wanted))
        return self._train(ready, start, result)

    def _nothing_left(self, start: Checkpoint, result: "_Result") -> Ending:
        self._spool.event("NOTHING_LEFT", f"step {start.step} was the last; staging its result")
        return self._finish(start, {}, result)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase

    def _train(self, ready: Ready, start: Checkpoint | None, result: "_Result") -> Ending:
        self.phase = Phase.TRAINING
        command = ready.command
        if start is not None:
            command.resume_from(link_for_resume(start, self._store.scratch / "resume"))
        intake = Intake(self._output, self._store, self._spool)
        program = self._start_swift(ready.swift, command.argv(), ready.checked)
        hands = Hands(self._spool, self._stop, self._tree, intake, devices(self._spec))
        with Watch(program, self._output, hands, self._resumed_at, self.total_steps) as watch:
            self._watch = watch
            code = watch.follow()
            last = intake.last or start
            if last is not None and last.step >= watch.total_steps and self._is_well(code):
                return self._finish(last, watch.translation.measured, result)
        return self._unfinished(code)

    def _start_swift(
        self, swift: SwiftEnvironment, argv: Sequence[str], checked: CheckedSources
    ) -> Program:
        self._spool.event("SWIFT_STARTED", f"ms-swift {swift.version} trains", argv=" ".join(argv))
        executable = swift.python.with_name(argv[0])
        environment = training_environment(self._spec, self._cache, checked.uses_hub)
        # By its own Python, not by its first line: an environment may have been moved.
        words = [str(swift.python), str(executable), *argv[1:]]
        return self._tree.start(words, environment, self._spec.paths.run)

    def _is_well(self, code: int) -> bool:
        return code == 0 or (self._watch is not None and self._watch.ended_by_us)

    def _unfinished(self, code: int) -> Ending:
        well = self._is_well(code)
        if self._stop.mode is not None and well:
            return Ending(Outcome.STOPPED, self.step, self.total_steps)
        if not well:
            text = f"ms-swift ended by itself, with exit code {code}"
            self._spool.event("SWIFT_ENDED", text, SEVERITY_ERROR, exit_code=code)
            raise ExitedWithoutWords(code)
        raise RunFailed(
            Cause.NOTHING_TO_TRAIN,
            f"ms-swift ended without an error at step {self.step} of {self.total_steps}"
            + ("" if self.step > self._resumed_at else ", before it trained a step"),
            "Look at the data set and the checkpoint; and for a file that stops ms-swift on this"
            " host, /tmp/stop.",
        )

    def _finish(self, last: Checkpoint, measured: dict[str, float], result: "_Result") -> Ending:
        self.phase = Phase.RESULT
        metrics = {**measured, "steps": self.step, "total_steps": self.total_steps}
        best = best_of(self._store.every())
        if best is not None and best.eval_loss is not None:
            metrics |= {"best_step": best.step, "best_eval_loss": best.eval_loss}
        digest = result.stage(last.folder, metrics)
        return Ending(Outcome.COMPLETED, self.step, self.total_steps, manifest_digest=digest)


class _Result:
    """What is published in the end."""

    def __init__(self, run: RunSpec, base: BaseModel, data: SettledData, command: Command) -> None:
        self._run = run
        self._base = base
        self._data = data
        self._command = command

    def stage(self, checkpoint: Path, metrics: dict[str, float]) -> str:
        """Makes the staging folder from a checkpoint; the manifest's digest."""

        def add_files(folder: Path) -> None:
            copy_processing(self._base.folder, folder)
            for name in SWIFT_FILES:
                if (checkpoint / name).is_file():
                    shutil.copyfile(checkpoint / name, folder / name)

        about = About(
            base=self._base,
            receipts=self._data.receipts,
            metrics=metrics,
            library_versions=self._data.library_versions,
            more={"argv": self._command.argv()},
        )
        return stage(self._run, checkpoint, add_files, about)
