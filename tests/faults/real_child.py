"""A trainer with the real training child, for rows that are about data and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.jobs import Job

from tests.faults.harness import Installation
from tests.support.assets import Assets


def add_real_trainer(installation: Installation, assets: Assets) -> None:
    """Trainer "a" with two places; models and data are in the assets and the test's folder."""
    roots = [str(assets.folder), str(installation.root)]
    flags = [one for root in roots for one in ("--model-roots", root, "--data-roots", root)]
    trainer = installation.trainer("a", flags=["--cpu-slots", "2", *flags])
    trainer.module = "trainer_svc"
    trainer.start()


def submit_real(
    installation: Installation, assets: Assets, data: Path | str, output_dir: str, **more: Any
) -> Job:
    """A QLoRA job on the tiny model."""
    return installation.client.jobs.create(
        model=assets.model,
        train_data=[str(data)],
        output_dir=output_dir,
        accelerator="cpu",
        retry_backoff=0.1,
        **more,
    )
