"""Prints, logs and saves as ms-swift's training does, step by step.

The environment variable STAND_IN, a JSON object, says what goes wrong.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import modelscope  # type: ignore[import-not-found]
from adapter_file import adapter  # type: ignore[import-not-found]

from swift.utils import options  # type: ignore[import-not-found]

WRONG: dict[str, Any] = json.loads(os.environ.get("STAND_IN", "{}"))
STEP_SECONDS = float(WRONG.get("step_seconds", 0.02))


def rows_of(dataset: str) -> int:
    """Of a file, or of a data set on a hub."""
    file = Path(dataset)
    return len(file.read_bytes().splitlines()) if file.is_file() else modelscope.ROWS


def say(text: str) -> None:
    """One line of the log."""
    sys.stderr.write(f"[INFO:swift] {text}\n")
    sys.stderr.flush()


class Training:
    """One run."""

    def __init__(self) -> None:
        given = options(sys.argv[1:])
        self._given = given
        self._output = Path(given["output_dir"][0])
        self._save_steps = int(given["save_steps"][0])
        self._eval_steps = int(given.get("eval_steps", ["0"])[0])
        self._stop = False
        self._total = self._total_steps()
        self._step = self._resumed_step()

    def _total_steps(self) -> int:
        given = self._given
        rows = sum(rows_of(one) for one in given["dataset"])
        batch = int(given["per_device_train_batch_size"][0])
        batches = math.ceil(rows / batch)
        steps = max(1, math.ceil(batches / int(given["gradient_accumulation_steps"][0])))
        return math.ceil(float(given["num_train_epochs"][0]) * steps)

    def _resumed_step(self) -> int:
        if "resume_from_checkpoint" not in self._given:
            return 0
        folder = Path(self._given["resume_from_checkpoint"][0])
        state: dict[str, int] = json.loads((folder / "trainer_state.json").read_bytes())
        assert folder.name == f"checkpoint-{state['global_step']}"
        return state["global_step"]

    def run(self) -> None:
        """All of it."""
        self._output.mkdir(parents=True, exist_ok=True)
        if "daemon" in WRONG:
            sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
            Path(WRONG["daemon"]).write_text(str(sleeper.pid))
        if "fails" in WRONG:
            sys.stderr.write(WRONG["fails"])
            sys.exit(1)
        say("model_kwargs: {'device_map': 'cpu'}")
        time.sleep(float(WRONG.get("load_seconds", 0.0)))
        say("model_parameter_info: PeftModel: 0.4308M Params (0.0328M Trainable [7.6055%]), 0.0M")
        if not WRONG.get("deaf"):
            signal.signal(signal.SIGTERM, self._on_term)
        if WRONG.get("trains_nothing"):
            return
        self._bar()
        while self._step < self._total and self._do_step():
            pass
        self._log({"model_parameter_info": "", "last_model_checkpoint": "", "log_history": []})
        time.sleep(float(WRONG.get("end_seconds", 0.0)))

    def _on_term(self, *_: object) -> None:
        self._stop = True
        if WRONG.get("dies_when_asked"):
            os.kill(os.getpid(), signal.SIGKILL)

    def _do_step(self) -> bool:
        time.sleep(STEP_SECONDS)
        self._step += 1
        self._bar()
        if WRONG.get("dies_at") == self._step:
            os.kill(os.getpid(), signal.SIGKILL)
        loss: float = math.nan if WRONG.get("diverges_at") == self._step else 8.0 / self._step
        self._log_step({"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4, "token_acc": 0.5})
        last = self._step == self._total
        if "val_dataset" in self._given and (last or self._step % self._eval_steps == 0):
            self._log_step({"eval_loss": 9.0 / self._step, "eval_runtime": 0.1})
        if self._stop or last or self._step % self._save_steps == 0:
            self._save()
        return not self._stop

    def _bar(self) -> None:
        share = 100 * self._step // self._total
        bar = (
            f"\rTrain: {share:3d}%|####      | {self._step}/{self._total} [00:00<00:06,  2.50it/s]"
        )
        sys.stderr.write(bar)
        sys.stderr.flush()

    def _log_step(self, entry: dict[str, Any]) -> None:
        entry["global_step/max_steps"] = f"{self._step}/{self._total}"
        self._log({**entry, "epoch": self._step / self._total, "train_speed(s/it)": STEP_SECONDS})

    def _log(self, entry: dict[str, Any]) -> None:
        """In two pieces, as a disk may show it."""
        line = json.dumps(entry) + "\n"
        for piece in (line[: len(line) // 2], line[len(line) // 2 :]):
            with (self._output / "logging.jsonl").open("a") as file:
                file.write(piece)
            time.sleep(0.001)

    def _save(self) -> None:
        folder = self._output / f"checkpoint-{self._step}"
        folder.mkdir()
        weight = math.nan if WRONG.get("weights_break_at") == self._step else float(self._step)
        (folder / "adapter_model.safetensors").write_bytes(adapter(weight))
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        (folder / "training_args.bin").write_bytes(b"a pickle")
        (folder / "args.json").write_text("{}")
        if WRONG.get("dies_saving") == self._step:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(WRONG.get("save_seconds", 0.0)))
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            (folder / name).write_bytes(b"a state")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": self._step}))
        say(f"Saving model checkpoint to {folder}")
        link = self._output / "last-checkpoint"
        aside = self._output / "link"
        aside.symlink_to(folder.name)
        aside.replace(link)


if __name__ == "__main__":
    Training().run()
