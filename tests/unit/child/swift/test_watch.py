"""Watching a `swift`: one that does not end, and one whose rows look like its own words."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.eventually import eventually_sync
from tests.unit.child.swift.stand_in.adapter_file import adapter
from trainer_svc.child.checkpoints import CheckpointStore
from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopRequests
from trainer_svc.child.swift.follow import Hands, Watch
from trainer_svc.child.swift.intake import Intake
from trainer_svc.child.swift.process import Tree

LOADED = "[INFO:swift] model_parameter_info: PeftModel: 0.4308M Params (0.0328M Trainable [7.6%])"


@dataclass
class Watched:
    """What a watch works with."""

    folder: Path
    output: Path
    hands: Hands

    def run(self, script: str) -> tuple[int, Watch]:
        """Watches a shell's script that was expected to take four steps."""
        program = self.hands.tree.start(["sh", "-c", script], {}, self.folder)
        with Watch(program, self.output, self.hands, step=0, total_steps=4) as watch:
            return watch.follow(), watch

    @property
    def told(self) -> str:
        return (self.folder / "spool.jsonl").read_text()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    store = CheckpointStore(tmp_path / "checkpoints", "jobs/j", attempt=1, limit=2)
    store.open()
    output = store.scratch / "swift"
    written = output / "checkpoint-4"
    written.mkdir(parents=True)
    (written / "adapter_model.safetensors").write_bytes(adapter(1.0))
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"):
        (written / name).write_bytes(b"state")
    spool = Spool(tmp_path / "spool.jsonl")
    stop = StopRequests(tmp_path, lambda _mode: None)
    intake = Intake(output, store, spool)
    yield Watched(tmp_path, output, Hands(spool, stop, Tree(), intake, end_seconds=0.2))
    spool.close()


def saved(folder: Path) -> str:
    return f"echo '[INFO:swift] Saving model checkpoint to {folder}'"


def bar(done: int, total: int) -> str:
    return f"echo 'Train:  10%|#   | {done}/{total} [00:00<00:06,  2.50it/s]'"


def test_one_that_hangs_after_its_last_checkpoint_is_ended_and_its_work_kept(
    watched: Watched,
) -> None:
    code, watch = watched.run(f"{saved(watched.output / 'checkpoint-4')}; exec sleep 600")

    assert code == 128 + 9
    assert watch.ended_by_us
    assert watched.hands.intake.last is not None
    assert watched.hands.intake.last.step == 4
    eventually_sync(lambda: "did not end by itself" in watched.told)


def test_a_checkpoint_that_a_row_speaks_of_is_not_taken_for_one_of_this_run(
    watched: Watched,
) -> None:
    code, _ = watched.run(f"{saved(Path('/elsewhere/checkpoint-4'))}; sleep 0.3; exit 1")

    assert code == 1
    assert watched.hands.intake.last is None


def test_a_bar_before_the_model_is_loaded_is_a_row_of_the_data(watched: Watched) -> None:
    _, watch = watched.run(f"{bar(9, 900)}; echo '{LOADED}'; {bar(0, 4)}; {bar(1, 4)}; exit 1")

    assert (watch.step, watch.total_steps) == (1, 4)
    assert "TOTAL_STEPS_CHANGED" not in watched.told


def test_the_log_overrules_the_total_of_a_bar(watched: Watched) -> None:
    entry = json.dumps({"loss": 1.0, "global_step/max_steps": "1/5"})
    log = watched.output / "logging.jsonl"

    _, watch = watched.run(f"echo '{LOADED}'; {bar(0, 900)}; echo '{entry}' > {log}; exit 1")

    assert watch.total_steps == 5
