"""When a checkpoint of ms-swift's counts as whole, and what becomes of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.child.swift.stand_in.adapter_file import adapter
from trainer_svc.child.checkpoints import CheckpointStore
from trainer_svc.child.manifest import prove
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift.intake import Intake, link_files, link_for_resume

STATES = ("optimizer.pt", "rng_state_0.pth", "scheduler.pt", "trainer_state.json")


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    found = CheckpointStore(tmp_path / "checkpoints", "jobs/j", attempt=1, limit=2)
    found.open()
    return found


@pytest.fixture
def output(store: CheckpointStore) -> Path:
    """ms-swift's own folder."""
    return store.scratch / "swift"


@pytest.fixture
def intake(tmp_path: Path, store: CheckpointStore, output: Path) -> Iterator[Intake]:
    spool = Spool(tmp_path / "spool.jsonl")
    yield Intake(output, store, spool)
    spool.close()


def write_checkpoint(output: Path, step: int) -> Path:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(adapter(1.0))
    for name in STATES:
        (folder / name).write_bytes(b"state")
    (folder / "training_args.bin").write_bytes(b"a pickle")
    return folder


def steps(intake: Intake, ended_well: bool = False) -> list[int]:
    return [found.step for found in intake.whole(ended_well)]


def test_a_checkpoint_is_not_whole_because_its_folder_is_there(
    intake: Intake, output: Path
) -> None:
    assert steps(intake) == []

    write_checkpoint(output, 2)

    assert steps(intake) == []


def test_it_is_once_ms_swift_says_so(intake: Intake, output: Path) -> None:
    for step in (2, 4, 10):
        write_checkpoint(output, step)

    intake.heard_of(4)

    assert steps(intake) == [2, 4]


def test_it_is_once_the_link_points_at_it(intake: Intake, output: Path) -> None:
    for step in (2, 4):
        write_checkpoint(output, step)

    (output / "last-checkpoint").symlink_to("checkpoint-2")

    assert steps(intake) == [2]


def test_it_is_once_ms_swift_has_ended_well(intake: Intake, output: Path) -> None:
    write_checkpoint(output, 2)

    assert steps(intake, ended_well=True) == [2]


def test_what_is_taken_in_is_proven_shares_its_bytes_and_is_taken_once(
    intake: Intake, output: Path
) -> None:
    folder = write_checkpoint(output, 2)
    inode = (folder / "optimizer.pt").stat().st_ino
    intake.heard_of(2)

    intake.take_all(intake.whole(), {2: 0.5})

    assert intake.last is not None
    assert prove(intake.last.folder)["eval_loss"] == 0.5
    assert (intake.last.folder / "optimizer.pt").stat().st_ino == inode
    assert sorted(path.name for path in intake.last.folder.iterdir()) == [
        "adapter_model.safetensors",
        "manifest.json",
        *STATES,
    ]
    assert (folder / "training_args.bin").exists()
    assert steps(intake) == []


def test_one_that_ms_swift_has_removed_meanwhile_is_passed_over(
    intake: Intake, output: Path
) -> None:
    folder = write_checkpoint(output, 2)
    intake.heard_of(2)
    found = intake.whole()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()

    intake.take_all(found, {})

    assert intake.last is None


@pytest.mark.parametrize("name", ["adapter_model.safetensors", *STATES])
def test_one_that_ms_swift_is_removing_is_passed_over_and_never_sealed(
    intake: Intake, output: Path, store: CheckpointStore, name: str
) -> None:
    write_checkpoint(output, 2)
    (write_checkpoint(output, 4) / name).unlink()
    intake.heard_of(4)

    intake.take_all(intake.whole(), {})

    assert [checkpoint.step for checkpoint in store.every()] == [2]
    assert intake.last is not None
    assert intake.last.step == 2
    assert steps(intake) == []


def test_a_checkpoint_is_given_back_under_the_name_that_ms_swift_takes(
    intake: Intake, output: Path, store: CheckpointStore
) -> None:
    write_checkpoint(output, 12)
    intake.heard_of(12)
    intake.take_all(intake.whole(), {})
    assert intake.last is not None

    target = link_for_resume(intake.last, store.scratch / "resume")

    assert target.name == "checkpoint-12"
    assert sorted(os.listdir(target)) == ["adapter_model.safetensors", *STATES]


def test_linking_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_files(tmp_path / "none", tmp_path / "target", frozenset())
