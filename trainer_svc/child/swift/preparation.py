"""What an ms-swift run needs before it trains: environment, model, checked rows, a command.

Owns the order, which a run and a data check share: find the model and look at it
before anything loads from it, check the data, look at every row. Refuses a
trainer without ms-swift, and what the steps refuse (RunFailed).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunewright.v1.spec_pb2 import MODEL_KIND_VLM

from svckit.spec import JobSpec
from svckit.spec.wire import spec_from_proto
from svckit.swift import SwiftRun, major_of, swift_argv
from trainer_svc.child.attempt import ExitedWithoutWords
from trainer_svc.child.failure import Cause, Phase, RunFailed
from trainer_svc.child.inspection import RUN, Inspection
from trainer_svc.child.kinds import require_possible
from trainer_svc.child.model import BaseModel
from trainer_svc.child.run_spec import RunSpec, SwiftEnvironment
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift.data import SCRIPT as PREPASS
from trainer_svc.child.swift.data import CheckedSources, Prepass, SettledData, check_sources
from trainer_svc.child.swift.environment import looking_environment
from trainer_svc.child.swift.inside.prepass import PICTURES, READS_NO_PICTURES
from trainer_svc.child.swift.model_source import find_base
from trainer_svc.child.swift.process import Tree, adopt_orphans


@dataclass(frozen=True)
class Places:
    """Folders of one run: its own cache, and where ms-swift writes."""

    cache: Path
    output: Path


@dataclass(frozen=True)
class Ready:
    """What training begins with."""

    swift: SwiftEnvironment
    base: BaseModel
    checked: CheckedSources
    command: "Command"
    data: SettledData


class Preparation:
    """Makes one run ready. What it starts is below `tree`, whose owner ends it."""

    def __init__(
        self,
        spec: RunSpec,
        places: Places,
        tree: Tree,
        spool: Spool,
        inspection: Inspection = RUN,
    ) -> None:
        self._spec = spec
        self._places = places
        self._tree = tree
        self._spool = spool
        self._inspection = inspection

    def execute(self, enter: Callable[[Phase], None], weights: bool = True) -> Ready:
        """`enter` hears of each phase; without `weights` none are downloaded. Raises RunFailed,
        ExitedWithoutWords, OSError."""
        swift = self._environment()
        require_possible(self._spec)
        adopt_orphans()
        cache = self._places.cache
        cache.mkdir(parents=True, exist_ok=True)
        # First of all: it takes seconds to be ready, and waits until it is asked.
        prepass = self._start_prepass(swift)
        enter(Phase.MODEL)
        base = find_base(self._spec, swift, self._tree, cache, self._spool, weights)
        enter(Phase.DATA)
        checked = check_sources(self._spec, cache, self._spool, self._inspection)
        command = Command(self._spec, swift, base, checked, self._places.output)
        data = self._settle(prepass, checked, command)
        return Ready(swift, base, checked, command, data)

    def _environment(self) -> SwiftEnvironment:
        swift = self._spec.swift
        if swift is None or major_of(swift.version) is None:
            raise RunFailed(
                Cause.ENVIRONMENT_INVALID,
                "this trainer has no ms-swift that it knows",
                "Give the trainer the Python of an environment with ms-swift (--swift-python).",
            )
        return swift

    def _start_prepass(self, swift: SwiftEnvironment) -> Prepass:
        argv = [str(swift.python), str(PREPASS)]
        if self._spec.spec.model_kind == MODEL_KIND_VLM:
            argv.append(PICTURES)
        on_a_hub = self._spec.allow_hub  # its cache is chosen before the sources are known
        environment = looking_environment(self._spec, self._places.cache, on_a_hub)
        program = self._tree.start(argv, environment, self._spec.paths.run, asks=True)
        return Prepass(program, self._spec, self._spool, self._inspection)

    def _settle(self, prepass: Prepass, checked: CheckedSources, command: "Command") -> SettledData:
        try:
            return prepass.settle(checked, command.argv()[1:])
        except ExitedWithoutWords as error:
            if error.exit_code != READS_NO_PICTURES:
                raise
            raise RunFailed(
                Cause.MODEL_INVALID,
                f"model_kind is vlm, and ms-swift knows {self._spec.spec.model.name} as a model"
                " that reads text only",
                "Set model_kind to llm, or name a model that reads pictures.",
            ) from error


class Command:
    """The command line of one run, as it takes shape."""

    def __init__(
        self,
        run: RunSpec,
        swift: SwiftEnvironment,
        base: BaseModel,
        checked: CheckedSources,
        output: Path,
    ) -> None:
        self._spec: JobSpec = spec_from_proto(run.spec)
        self._major = major_of(swift.version) or 0
        self._base = base
        self._checked = checked
        self._output = output
        self._resume_from = ""

    def argv(self) -> list[str]:
        """Its first word is "swift"."""
        run = SwiftRun(
            output_dir=str(self._output),
            model=str(self._base.folder),
            revision="",
            train=self._checked.words("train"),
            evaluation=self._checked.words("eval"),
            resume_from=self._resume_from,
            text_only=self._checked.text_only,
        )
        return swift_argv(self._spec, run, self._major)

    def resume_from(self, checkpoint: Path) -> None:
        """Goes on from there."""
        self._resume_from = str(checkpoint)

    def evaluate_every(self, steps: int) -> None:
        """Where the spec has no word on it: an epoch's end by its step number, so that the
        evaluation comes before the checkpoint of the same step."""
        wanted = self._spec.hyperparameters
        if wanted.eval_steps is None and self._checked.words("eval"):
            wanted = wanted.model_copy(update={"eval_steps": steps})
            self._spec = self._spec.model_copy(update={"hyperparameters": wanted})
