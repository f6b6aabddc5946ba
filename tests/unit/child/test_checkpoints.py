"""Checkpoints on disk: proof, rotation, what is resumed from."""

from pathlib import Path

import pytest

from trainer_svc.child.checkpoints import Checkpoint, CheckpointStore
from trainer_svc.child.durable import remove_tree
from trainer_svc.child.manifest import ManifestBroken, prove, seal
from trainer_svc.child.stopping import StopMode, StopNow


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints", "jobs/j", 1, limit=2)
    store.open()
    return store


def save(
    store: CheckpointStore, step: int, eval_loss: float | None = None, record_only: bool = False
) -> Path:
    files = store.scratch / f"checkpoint-{step}"
    files.mkdir()
    (files / "weights").write_bytes(b"weights of step %d" % step)
    return store.save(files, step, record_only, eval_loss).folder


def steps(store: CheckpointStore) -> list[int]:
    return [entry.step for entry in store.every()]


def test_a_saved_checkpoint_holds_its_hashes(store: CheckpointStore) -> None:
    folder = save(store, 5, eval_loss=1.5)

    manifest = prove(folder)

    assert folder.name == "00000005"
    assert manifest["step"] == 5
    assert manifest["eval_loss"] == 1.5
    assert set(manifest["files"]) == {"weights"}


def test_the_newest_and_the_best_stay(store: CheckpointStore) -> None:
    save(store, 0, record_only=True)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, None)):
        save(store, step, loss)
        store.rotate()

    assert steps(store) == [0, 2, 4, 5]


def test_the_highest_one_that_holds_is_resumed_from(store: CheckpointStore) -> None:
    save(store, 0, record_only=True)
    save(store, 1)
    save(store, 2)
    broken = save(store, 3)
    (broken / "weights").write_bytes(b"weights of step 4")

    start, invalid = store.resume_point()

    assert start is not None
    assert start.step == 2
    assert [entry.step for entry in invalid] == [3]
    assert "has not the hash" in invalid[0].why


def test_one_that_does_not_hold_never_pushes_out_a_good_one(store: CheckpointStore) -> None:
    for step in (1, 2, 9):
        save(store, step)
    (store.scratch.parent / "00000009" / "weights").write_bytes(b"")
    store.resume_point()

    save(store, 3)
    store.rotate()

    assert steps(store) == [2, 3]


def test_the_record_of_the_beginning_is_never_resumed_from(store: CheckpointStore) -> None:
    save(store, 0, record_only=True)

    assert store.resume_point() == (None, [])


def test_a_step_saved_again_replaces_the_old_one(store: CheckpointStore) -> None:
    save(store, 3, eval_loss=2.0)

    folder = save(store, 3, eval_loss=1.0)

    assert prove(folder)["eval_loss"] == 1.0


def test_what_a_killed_attempt_left_half_written_goes(tmp_path: Path) -> None:
    left = tmp_path / ".tmp-1" / "checkpoint-7"
    left.mkdir(parents=True)
    store = CheckpointStore(tmp_path, "jobs/j", 2, limit=2)

    store.open()
    store.close()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["missing", "shorter", "unlisted", "link", "escape", "no json"])
def test_a_folder_that_is_not_its_manifest_is_refused(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir()
    (folder / "a").write_bytes(b"abc")
    seal(folder, {"step": 1})
    if fault == "missing":
        (folder / "a").unlink()
    elif fault == "shorter":
        (folder / "a").write_bytes(b"ab")
    elif fault == "unlisted":
        (folder / "optimizer.pt").write_bytes(b"")
    elif fault == "link":
        (folder / "a").rename(tmp_path / "a")
        (folder / "a").symlink_to(tmp_path / "a")
    elif fault == "escape":
        text = (folder / "manifest.json").read_text().replace('"a"', '"../a"')
        (folder / "manifest.json").write_text(text)
    else:
        (folder / "manifest.json").write_text('{"files": {"a": 3}}')

    with pytest.raises(ManifestBroken):
        prove(folder)


def opened(folder: Path, attempt: int) -> CheckpointStore:
    store = CheckpointStore(folder, "jobs/j", attempt, limit=2)
    store.open()
    return store


def test_an_attempt_that_was_given_up_removes_nothing_of_the_one_after_it(tmp_path: Path) -> None:
    old = opened(tmp_path, 1)
    save(old, 1)
    new = opened(tmp_path, 2)
    old.scratch.mkdir()  # the new one has cleared it; the old one may make it again
    save(new, 2)
    save(new, 3)
    new.rotate()

    for step in (10, 20, 30):
        save(old, step)
        old.rotate()

    assert {(entry.step, entry.attempt) for entry in old.every()} == {
        (2, 2),
        (3, 2),
        (20, 1),
        (30, 1),
    }
    save(new, 4)
    assert new.rotate() == [2]
    assert {entry.step for entry in new.every() if entry.attempt == 2} == {3, 4}


def test_an_attempt_that_was_given_up_replaces_nothing_of_the_one_after_it(tmp_path: Path) -> None:
    old, new = opened(tmp_path, 1), opened(tmp_path, 2)
    old.scratch.mkdir()
    kept = save(new, 5)

    with pytest.raises(StopNow) as stopped:
        save(old, 5)

    assert stopped.value.mode is StopMode.FENCE
    assert prove(kept)["attempt"] == 2


def test_a_checkpoint_that_another_attempt_removed_first_is_passed_over(tmp_path: Path) -> None:
    class RacedStore(CheckpointStore):
        """Another attempt removes the first checkpoint right after they were listed."""

        def every(self) -> list[Checkpoint]:
            entries = super().every()
            if len(entries) == 3:
                remove_tree(entries[0].folder)
            return entries

    store = RacedStore(tmp_path, "jobs/j", 1, limit=2)
    store.open()
    for step in (1, 2, 3):
        save(store, step)

    assert store.rotate() == [1]
    assert not list(store.scratch.iterdir())
