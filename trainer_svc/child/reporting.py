"""What the trainer's callbacks do for the run: report, keep checkpoints, stop.

Owns the translation from the library's events to spool entries, and the moment
a checkpoint becomes durable. Refuses to go on with a loss or gradient norm that
is NaN or infinite, and to keep a checkpoint with such weights (RunFailed,
DIVERGED).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from tunewright.v1.feed_pb2 import CheckpointSaved, EvalMetrics, TrainMetrics

from trainer_svc.child.checkpoints import CheckpointStore
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.hardware import gpu_memory_bytes_max, host_memory_bytes
from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopRequests
from trainer_svc.child.training import EvaluationStopped, adapter_is_finite, diverged

# Written by the library into each checkpoint; a pickle that nothing reads.
UNUSED = "training_args.bin"


@dataclass
class _Pace:
    """Where the clock and the counters stood, for rates."""

    seconds: float
    step: int
    tokens: int


class RunCallback(TrainerCallback):
    """Reports one training to a spool and keeps its checkpoints."""

    def __init__(
        self, spool: Spool, store: CheckpointStore, stop: StopRequests, total_steps: int
    ) -> None:
        self._spool = spool
        self._store = store
        self._stop = stop
        self._total_steps = total_steps
        self._begin = self._last = _Pace(0.0, 0, 0)
        self._eval: tuple[int, float] | None = None
        self.metrics: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Says how long it will be; keeps the state before the first step as a record."""
        if state.max_steps != self._total_steps:
            raise AssertionError(f"{state.max_steps} steps, {self._total_steps} were expected")
        self._begin = self._last = _Pace(
            time.monotonic(), state.global_step, state.num_input_tokens_seen
        )
        self._spool.event(
            "TRAINING_STARTED",
            f"training from step {state.global_step} to {self._total_steps}",
            step=state.global_step,
            total_steps=self._total_steps,
        )
        if state.global_step == 0:
            record = self._store.scratch / "record"
            kwargs["model"].save_pretrained(record)
            self._keep(record, 0, record_only=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """At the last step and before a stop: log, save; a stop leaves out the evaluation."""
        if state.global_step >= self._total_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
        elif self._stop.mode is not None:
            control.should_log = True
            control.should_evaluate = False
            control.should_save = True
            control.should_training_stop = True

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Gives up an evaluation when the run is to stop, except the last one."""
        if self._stop.mode is not None and state.global_step < self._total_steps:
            raise EvaluationStopped

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One logging step. The library also logs evaluations and a summary here."""
        logs: dict[str, float] = kwargs["logs"]
        if "loss" not in logs:
            return
        self._require_finite(
            state, {name: logs[name] for name in ("loss", "grad_norm") if name in logs}
        )
        now = _Pace(time.monotonic(), state.global_step, int(state.num_input_tokens_seen))
        self._spool.train_metrics(self._train_metrics(logs, state, now))
        self._last = now
        self.metrics["train_loss"] = logs["loss"]

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One evaluation."""
        metrics: dict[str, float] = kwargs["metrics"]
        loss = metrics["eval_loss"]
        self._require_finite(state, {"eval_loss": loss})
        self._eval = (state.global_step, loss)
        self.metrics["eval_loss"] = loss
        entry = EvalMetrics(step=state.global_step, epoch=state.epoch or 0.0, loss=loss)
        entry.duration.FromNanoseconds(round(metrics["eval_runtime"] * 1e9))
        if "eval_mean_token_accuracy" in metrics:
            entry.token_accuracy = metrics["eval_mean_token_accuracy"]
        self._spool.eval_metrics(entry)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The library has written its files; make them a checkpoint."""
        if not adapter_is_finite(kwargs["model"]):
            raise _diverged(state.global_step, "a weight of the adapter is NaN or infinite")
        written = self._store.scratch / f"checkpoint-{state.global_step}"
        (written / UNUSED).unlink(missing_ok=True)
        self._keep(written, state.global_step, record_only=False)
        self._store.rotate()

    def _keep(self, written: Path, step: int, record_only: bool) -> None:
        eval_loss = self._eval[1] if self._eval is not None and self._eval[0] == step else None
        saved = self._store.save(written, step, record_only, eval_loss)
        self._spool.checkpoint_saved(
            CheckpointSaved(
                step=step,
                path=str(saved.folder),
                manifest_digest=saved.digest,
                size_bytes=saved.size_bytes,
                record_only=record_only,
                eval_loss=eval_loss,
            )
        )

    def _train_metrics(
        self, logs: dict[str, float], state: TrainerState, now: _Pace
    ) -> TrainMetrics:
        entry = TrainMetrics(
            step=now.step,
            total_steps=self._total_steps,
            epoch=state.epoch or 0.0,
            loss=logs["loss"],
            learning_rate=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=now.tokens,
            host_memory_bytes=host_memory_bytes(),
            gpu_memory_bytes_max=gpu_memory_bytes_max(),
            token_accuracy=logs.get("mean_token_accuracy"),
        )
        seconds = now.seconds - self._last.seconds
        if seconds > 0:
            entry.tokens_per_second = (now.tokens - self._last.tokens) / seconds
        if now.step > self._begin.step:
            pace = (now.seconds - self._begin.seconds) / (now.step - self._begin.step)
            entry.eta.FromNanoseconds(round((self._total_steps - now.step) * pace * 1e9))
        return entry

    def _require_finite(self, state: TrainerState, values: dict[str, float]) -> None:
        flaw = diverged(values)
        if flaw is not None:
            raise _diverged(state.global_step, flaw)


def _diverged(step: int, flaw: str) -> RunFailed:
    return RunFailed(
        Cause.DIVERGED,
        f"training diverged at step {step}: {flaw}",
        "Lower learning_rate, raise warmup_ratio, or lower max_grad_norm; the last checkpoint"
        " before this is kept.",
    )
