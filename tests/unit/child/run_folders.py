"""Run folders as the trainer service writes them, for tests of the training process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HYPERPARAMETERS: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "max_steps": "-1",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.03,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "max_length": 256,
    "packing": False,
    "assistant_only_loss": True,
    "lora_r": 8,
    "lora_alpha": 16.0,
    "lora_dropout": 0.05,
    "target_modules": ["all-linear"],
    "load_in_4bit": True,
    "logging_steps": 2,
    "save_steps": 500,
    "save_total_limit": 2,
    "seed": "42",
    "dataloader_num_workers": 0,
    "optim": "adamw_torch",
}


@dataclass(frozen=True)
class RunFolder:
    """One run folder and what the run left in it."""

    path: Path
    checkpoints: Path
    staging: Path
    cache: Path

    @property
    def result(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.path / "result.json").read_bytes())
        return document

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of that kind in the spool, in order."""
        spool = self.path / "spool.jsonl"
        lines = spool.read_bytes().splitlines() if spool.exists() else []
        return [entry[kind] for line in lines if kind in (entry := json.loads(line))]

    def event_types(self) -> list[str]:
        return [event["type"] for event in self.entries("event")]

    def losses(self) -> dict[int, float]:
        return {int(entry["step"]): entry["loss"] for entry in self.entries("train_metrics")}


def make_run_folder(
    root: Path,
    model: Path | str,
    train: Path | str,
    *,
    attempt: int = 1,
    resume: bool = False,
    evaluation: Path | str | None = None,
    system_prompt: str = "",
    data_format: str = "DATA_FORMAT_UNSPECIFIED",
    split: str = "",
    model_kind: str = "MODEL_KIND_LLM",
    roots: tuple[Path, ...] | None = None,
    more_train: tuple[str, ...] = (),
    spec_fields: Mapping[str, Any] | None = None,
    **hyperparameters: Any,
) -> RunFolder:
    """Writes spec.json for attempt `attempt` of job "j" below `root`. `more_train` are sources
    after `train`, `spec_fields` goes over the spec's own fields."""
    folder = RunFolder(
        path=root / "runs" / "j" / str(attempt),
        checkpoints=root / "artifacts" / "jobs" / "j" / "checkpoints",
        staging=root / "outputs" / ".staging" / f"j-{attempt}",
        cache=root / "cache",
    )
    folder.path.mkdir(parents=True)
    sources = [] if evaluation is None else [{"source": str(evaluation)}]
    spec = {
        "model": {"name": str(model)},
        "train_data": [
            {"source": str(train), "format": data_format, "split": split},
            *({"source": source} for source in more_train),
        ],
        "eval_data": sources,
        "backend": "BACKEND_QLORA",
        "hyperparameters": {**HYPERPARAMETERS, **hyperparameters},
        "resources": {"accelerator": "ACCELERATOR_CPU"},
        "output_dir": "out",
        "system_prompt": system_prompt,
        "model_kind": model_kind,
        **(spec_fields or {}),
    }
    allowed = [str(path) for path in roots or (Path("/"),)]
    document = {
        "job": "jobs/j",
        "attempt": attempt,
        "spec": spec,
        "gpu_ids": [],
        "resume": resume,
        "paths": {
            "run": str(folder.path),
            "checkpoints": str(folder.checkpoints),
            "staging": str(folder.staging),
            "cache": str(folder.cache),
        },
        "model_roots": allowed,
        "data_roots": allowed,
        "argv": [],
        "environment": {},
        "allow_hub": False,
    }
    (folder.path / "spec.json").write_text(json.dumps(document))
    return folder
