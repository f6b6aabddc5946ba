"""Watching a `swift` that has done its work and does not end."""

from pathlib import Path

from tests.support.eventually import eventually_sync
from tests.unit.child.swift.stand_in.adapter_file import adapter
from trainer_svc.child.checkpoints import CheckpointStore
from trainer_svc.child.spool import Spool
from trainer_svc.child.stopping import StopRequests
from trainer_svc.child.swift.follow import Hands, Watch
from trainer_svc.child.swift.intake import Intake
from trainer_svc.child.swift.process import Tree


def test_one_that_hangs_after_its_last_checkpoint_is_ended_and_its_work_kept(
    tmp_path: Path,
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", "jobs/j", attempt=1, limit=2)
    store.open()
    output = store.scratch / "swift"
    written = output / "checkpoint-4"
    written.mkdir(parents=True)
    (written / "adapter_model.safetensors").write_bytes(adapter(1.0))
    spool = Spool(tmp_path / "spool.jsonl")
    intake = Intake(output, store, spool)
    tree = Tree()
    say = f"[INFO:swift] Saving model checkpoint to {written}"
    program = tree.start(["sh", "-c", f"echo '{say}'; exec sleep 600"], {}, tmp_path)
    stop = StopRequests(tmp_path, lambda _mode: None)
    hands = Hands(spool, stop, tree, intake, end_seconds=0.2)

    with Watch(program, output, hands, step=0, total_steps=4) as watch:
        code = watch.follow()
    spool.close()

    assert code == 128 + 9
    assert watch.ended_by_us
    assert intake.last is not None
    assert intake.last.step == 4
    eventually_sync(lambda: "did not end by itself" in (tmp_path / "spool.jsonl").read_text())
