"""Training without a model: steps, and checkpoints that are kept and resumed from as QLoRA's are.

Run by the scripted child: ["run_file", PATH_OF_THIS, {...}]. Where to begin, what
is told of it, and every checkpoint come from the code that QLoRA runs. With
`hold` the steps stop at `hold_at_step` until that file appears.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

from tunewright.v1.feed_pb2 import CheckpointSaved, TrainMetrics

from trainer_svc.child.checkpoints import CheckpointStore
from trainer_svc.child.run import Run
from trainer_svc.child.run_spec import read_run_spec
from trainer_svc.child.spool import Spool
from trainer_svc.child.starting_point import find_start
from trainer_svc.child.stopping import StopNow, StopRequests


def main(run_folder: Path, _spec: Any, plan: dict[str, Any]) -> None:
    """One attempt; returns after the last step."""
    spec = read_run_spec(run_folder)
    spool = Spool(run_folder / "spool.jsonl")
    stop = StopRequests(run_folder, lambda _mode: None)
    signal.signal(signal.SIGTERM, stop._on_sigterm)
    run = Run(spec, spool, stop)
    try:
        start = find_start(run._store, spec.resume, spool)
        begin = start.step if start else 0
        _steps(spool, run._store, begin, plan)
    except StopNow:
        sys.exit(0)
    finally:
        run.close()


def _steps(spool: Spool, store: CheckpointStore, begin: int, plan: dict[str, Any]) -> None:
    total, every = int(plan["steps"]), int(plan.get("save_every", 0))
    hold, hold_at_step = plan.get("hold"), int(plan.get("hold_at_step", 0))
    for step in range(begin + 1, total + 1):
        spool.train_metrics(TrainMetrics(step=step, total_steps=total, loss=1.0 / step))
        if every and step % every == 0:
            _save(spool, store, step)
        while hold and step == hold_at_step and not Path(hold).exists():
            time.sleep(0.02)
        time.sleep(float(plan.get("pause_seconds", 0.0)))


def _save(spool: Spool, store: CheckpointStore, step: int) -> None:
    files = store.scratch / "saving"
    files.mkdir(parents=True)  # as the training libraries do, if the folder above is gone
    (files / "adapter_model.safetensors").write_bytes(f"weights at {step}".encode())
    saved = store.save(files, step, record_only=False, eval_loss=None)
    spool.checkpoint_saved(
        CheckpointSaved(step=saved.step, path=str(saved.folder), manifest_digest=saved.digest)
    )
    store.rotate()
