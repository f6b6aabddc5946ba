"""Row 31: the trainer service is killed during publication, at each of its steps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, events

# What the output folder is at the moment of the kill, and where the job stands then.
POINTS = {
    "before_begin_publish": ("old", "RUNNING"),
    "publish_granted": ("old", "PUBLISHING"),
    "result_renamed_unsynced": ("new", "PUBLISHING"),
    "result_renamed": ("new", "PUBLISHING"),
}


@pytest.mark.parametrize("point", POINTS)
def test_31_output_is_the_old_state_or_the_new(bare: Installation, point: str) -> None:
    found, state = POINTS[point]
    trainer = bare.trainer("a")
    trainer.spawn(**armed(point))
    job = bare.submit(["entries", 3], ["complete"], output_dir="deep/out")

    crashes_at(trainer, point)
    assert state_of_folder(bare.outputs / "deep" / "out") == found
    assert job.refresh().state == state
    trainer.start()

    entries = check_nothing_lost(bare, job)
    assert events(entries).count("PUBLISHED") == 1
    assert state_of_folder(bare.outputs / "deep" / "out") == "new"
    assert list((bare.outputs / ".staging").iterdir()) == []


def state_of_folder(folder: Path) -> str:
    """ "old": nothing there; "new": all that the manifest names, as it says; else "mixed"."""
    if not folder.exists():
        return "old"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    there = {path.name for path in folder.iterdir()} - {"manifest.json"}
    whole = there == set(files) and all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == told["sha256"]
        for name, told in files.items()
    )
    return "new" if whole else "mixed"
