"""logging.jsonl, which ms-swift appends to at each logging step.

Owns following that file while it grows, and what its lines become in the spool.
Refuses to go on with a loss or gradient norm that is NaN or infinite (RunFailed,
DIVERGED). The last line is a summary and says nothing about success.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.v1.feed_pb2 import EvalMetrics, TrainMetrics

from trainer_svc.child.failure import Cause, RunFailed

STEP_KEY = "global_step/max_steps"
GIBIBYTE = 1 << 30


class GrowingLog:
    """Reads a JSON Lines file as it grows. It need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> list[dict[str, Any]]:
        """The lines that are whole and new. One that is no JSON object is passed over."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [entry for line in lines if (entry := _object(line)) is not None]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def step_of(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(step, total steps) of a line; None for one that is not about a step."""
    step, _, total = str(entry.get(STEP_KEY, "")).partition("/")
    return (int(step), int(total)) if step.isdecimal() and total.isdecimal() else None


class Translation:
    """Makes lines to entries of the spool, in their order."""

    def __init__(self, overflows: bool = False) -> None:
        """`overflows`: training in half precision, where the norm of a step that is left out
        for its overflow is infinite, and nothing is wrong."""
        self.overflows = overflows
        self._tokens: tuple[int, float] | None = None
        self.measured: dict[str, float] = {}
        self.eval_losses: dict[int, float] = {}

    def of(self, entry: Mapping[str, Any], now: float) -> TrainMetrics | EvalMetrics | None:
        """The entry for one line read `now`, in seconds; None for a summary. Raises RunFailed."""
        at = step_of(entry)
        if at is None:
            return None
        if "eval_loss" in entry:
            return self._evaluation(entry, at[0])
        return self._training(entry, *at, now) if "loss" in entry else None

    def _training(
        self, entry: Mapping[str, Any], step: int, total: int, now: float
    ) -> TrainMetrics:
        checked = ("loss",) if self.overflows else ("loss", "grad_norm")
        _require_finite(entry, checked, step)
        self.measured["train_loss"] = entry["loss"]
        found = TrainMetrics(
            step=step,
            total_steps=total,
            epoch=entry.get("epoch", 0.0),
            loss=entry["loss"],
            learning_rate=entry.get("learning_rate"),
            token_accuracy=entry.get("token_acc"),
        )
        if math.isfinite(entry.get("grad_norm", math.nan)):
            found.grad_norm = entry["grad_norm"]
        pace = entry.get("train_speed(s/it)")
        if pace is not None:
            found.eta.FromNanoseconds(round((total - step) * pace * 1e9))
        if "memory(GiB)" in entry:
            found.gpu_memory_bytes_max = round(entry["memory(GiB)"] * GIBIBYTE)
        self._add_tokens(found, entry.get("num_input_tokens_seen"), now)
        return found

    def _add_tokens(self, found: TrainMetrics, tokens: int | None, now: float) -> None:
        if tokens is None:
            return
        found.tokens = int(tokens)
        if self._tokens is not None and now > self._tokens[1]:
            found.tokens_per_second = (tokens - self._tokens[0]) / (now - self._tokens[1])
        self._tokens = (int(tokens), now)

    def _evaluation(self, entry: Mapping[str, Any], step: int) -> EvalMetrics:
        _require_finite(entry, ("eval_loss",), step)
        self.measured["eval_loss"] = self.eval_losses[step] = entry["eval_loss"]
        found = EvalMetrics(
            step=step,
            epoch=entry.get("epoch", 0.0),
            loss=entry["eval_loss"],
            token_accuracy=entry.get("eval_token_acc"),
        )
        found.duration.FromNanoseconds(round(entry.get("eval_runtime", 0.0) * 1e9))
        return found


def _require_finite(entry: Mapping[str, Any], names: tuple[str, ...], step: int) -> None:
    for name in names:
        if not math.isfinite(entry.get(name, 0.0)):
            raise diverged(step, f"{name} = {entry[name]}")


def diverged(step: int, flaw: str) -> RunFailed:
    """The failure of a run whose numbers are no numbers any more."""
    return RunFailed(
        Cause.DIVERGED,
        f"training diverged at step {step}: {flaw}",
        "Lower learning_rate, raise warmup_ratio, or lower max_grad_norm; the last checkpoint"
        " before this is kept.",
    )
