"""One training run, step by step.

Owns the order and what is reported at each step. The model's folder and the
job's values are judged first, then the data, then weights are loaded: what is
broken fails before a GPU is used. Refuses to call a run done
that trained nothing (RunFailed, NOTHING_TO_TRAIN), unless it resumes at its
last step.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_svc.child.checkpoints import Checkpoint, CheckpointStore, best_of
from trainer_svc.child.durable import remove_tree
from trainer_svc.child.failure import Cause, Phase, RunFailed
from trainer_svc.child.groundwork import judge_values, lay_groundwork
from trainer_svc.child.hardware import choose_hardware
from trainer_svc.child.inspection import RUN
from trainer_svc.child.kinds import kind_of
from trainer_svc.child.model import BaseModel, add_lora, check_vocabulary, load_config
from trainer_svc.child.positions import warn_beyond_positions
from trainer_svc.child.result import Ending, Outcome, stage_result
from trainer_svc.child.run_spec import RunSpec
from trainer_svc.child.sources import Prepared
from trainer_svc.child.spool import Spool
from trainer_svc.child.starting_point import find_start, require_within
from trainer_svc.child.steps import total_steps
from trainer_svc.child.stopping import StopRequests

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

    from trainer_svc.child.reporting import RunCallback
    from trainer_svc.child.targets import Targets
    from trainer_svc.child.training import QloraTrainer

    Processing = PreTrainedTokenizerBase | ProcessorMixin


class Run:
    """One attempt. `phase`, `step` and `total_steps` are true at any time."""

    def __init__(self, spec: RunSpec, spool: Spool, stop: StopRequests) -> None:
        self._spec = spec
        self._wanted = spec.spec.hyperparameters
        self._spool = spool
        self._stop = stop
        self._cache = spec.paths.cache / f"{spec.job_id}-{spec.attempt}"
        self._store = CheckpointStore(
            spec.paths.checkpoints, spec.job, spec.attempt, self._wanted.save_total_limit
        )
        self._kind = kind_of(spec)
        self._trainer: QloraTrainer | None = None
        self._resumed_at = 0
        self._quantisation: dict[str, Any] | None = None
        self.phase = Phase.STARTING
        self.total_steps = 0

    @property
    def step(self) -> int:
        """Optimizer steps done, over all attempts."""
        if self._trainer is None:
            return self._resumed_at
        return max(self._resumed_at, int(self._trainer.state.global_step))

    def close(self) -> None:
        """Removes temporary files; safe to call twice."""
        self._store.close()
        remove_tree(self._cache)

    def execute(self) -> Ending:
        """Raises RunFailed, StopNow, and what the libraries raise."""
        ground = lay_groundwork(self._spec, self._spool, self._enter)
        base, processing = ground.base, ground.processing
        targets = judge_values(self._spec, base, self._enter)
        self.phase = Phase.DATA
        data = self._kind.prepare(self._spec, processing, self._cache, self._spool, RUN)
        warn_beyond_positions(load_config(base), self._wanted, data.train, self._spool)
        self.total_steps = total_steps(len(data.train), self._wanted)
        self.phase = Phase.RESUME
        start = find_start(self._store, self._spec.resume, self._spool)
        self._resumed_at = start.step if start is not None else 0
        require_within(start, self.total_steps)
        if start is not None and start.step == self.total_steps:
            self._spool.event("NOTHING_LEFT", f"step {start.step} was the last; staging its result")
            return self._finish(start.folder, processing, base, data, {})
        model = self._load_model(base, processing, targets)
        return self._train(model, processing, base, data, start)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase

    def _load_model(
        self, base: BaseModel, processing: "Processing", targets: "Targets"
    ) -> "PeftModel":
        from trainer_svc.child.loaded import Loaded, report_loaded
        from trainer_svc.child.targets import lora_reach
        from trainer_svc.child.weights_account import measure

        self.phase = Phase.MODEL
        self._spool.event("MODEL_LOADING", f"loading {base.name}", name=base.name)
        hardware = choose_hardware(self._spec.use_cpu, self._wanted)
        loaded = self._kind.load_base(base, self._wanted, hardware)
        check_vocabulary(loaded, processing)
        self.phase = Phase.CONFIG
        untouched = self._kind.untouched(loaded)
        account = measure(loaded, untouched)
        model = add_lora(loaded, self._wanted, targets, untouched)
        reached = lora_reach(model)
        self._quantisation = {**account.as_dict(), "lora_modules": reached}
        trainable, _ = model.get_nb_trainable_parameters()
        report_loaded(self._spool, Loaded(base, hardware, account, trainable, reached))
        return model

    def _train(
        self,
        model: "PeftModel",
        processing: "Processing",
        base: BaseModel,
        data: Prepared,
        start: Checkpoint | None,
    ) -> Ending:
        from trainer_svc.child.reporting import RunCallback
        from trainer_svc.child.training import TrainingData, make_trainer, training_config

        hardware = choose_hardware(self._spec.use_cpu, self._wanted)
        sets = TrainingData(data.train, data.evaluation, self._kind.collator(processing))
        config = training_config(self._wanted, hardware, sets, self._store.scratch)
        callback = RunCallback(self._spool, self._store, self._stop, self.total_steps)
        self._trainer = make_trainer(model, processing, sets, config, callback)
        with self._stop.finishing_steps():
            self.phase = Phase.TRAINING
            self._trainer.train(resume_from_checkpoint=str(start.folder) if start else None)
            if self.step < self.total_steps:
                return self._unfinished()
            return self._stage_trained(model, processing, base, data, callback)

    def _unfinished(self) -> Ending:
        if self._stop.mode is not None:
            return Ending(Outcome.STOPPED, self.step, self.total_steps)
        raise RunFailed(
            Cause.NOTHING_TO_TRAIN,
            f"training ended at step {self.step} of {self.total_steps}",
            "Check the data set and the checkpoint; this should not happen.",
        )

    def _stage_trained(
        self,
        model: "PeftModel",
        processing: "Processing",
        base: BaseModel,
        data: Prepared,
        callback: "RunCallback",
    ) -> Ending:
        self.phase = Phase.RESULT
        adapter = self._store.scratch / "adapter"
        model.save_pretrained(str(adapter))
        return self._finish(adapter, processing, base, data, callback.metrics)

    def _finish(
        self,
        adapter: Path,
        processing: "Processing",
        base: BaseModel,
        data: Prepared,
        measured: dict[str, float],
    ) -> Ending:
        self.phase = Phase.RESULT
        metrics = {**measured, "steps": self.step, "total_steps": self.total_steps}
        best = best_of(self._store.every())
        if best is not None and best.eval_loss is not None:
            metrics |= {"best_step": best.step, "best_eval_loss": best.eval_loss}
        # None where the last checkpoint was the result and no weights were loaded.
        more = {"quantisation": self._quantisation}
        digest = stage_result(self._spec, adapter, processing, base, data.receipts, metrics, more)
        return Ending(Outcome.COMPLETED, self.step, self.total_steps, manifest_digest=digest)
