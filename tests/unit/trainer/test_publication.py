"""Putting a result at its place: old or new, never a mix, never through a link."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from trainer_svc.domain.runs import RunKey
from trainer_svc.supervisor.output_root import OutputInvalid, check_free
from trainer_svc.supervisor.publication import (
    Publication,
    StagedResultInvalid,
    is_in_place,
    move_into_place,
    verify_staged,
)

KEY = RunKey("job-a", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "outputs"
    made.mkdir()
    return made


def stage(root: Path, output_dir: str = "team/result") -> Publication:
    folder = root / ".staging/job-a-1"
    (folder / "tokenizer").mkdir(parents=True)
    files = {}
    for name in ("adapter_model.safetensors", "tokenizer/vocab.json"):
        (folder / name).write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        files[name] = {"sha256": digest, "size_bytes": len(name)}
    manifest = json.dumps({"files": files}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    return Publication(KEY, root, output_dir, "sha256:" + hashlib.sha256(manifest).hexdigest())


def test_a_staged_result_is_moved_whole(root: Path) -> None:
    publication = stage(root)

    verify_staged(publication)
    move_into_place(publication)

    assert (root / "team/result/tokenizer/vocab.json").exists()
    assert is_in_place(publication)
    assert not any((root / ".staging").iterdir())


def test_moving_again_changes_nothing(root: Path) -> None:
    publication = stage(root)
    move_into_place(publication)

    verify_staged(publication)
    move_into_place(publication)

    assert is_in_place(publication)


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link", "dangling link"])
def test_what_is_there_is_never_replaced(root: Path, kind: str) -> None:
    publication = stage(root, "result")
    place = root / "result"
    if kind == "file":
        place.write_text("theirs")
    elif kind == "link":
        place.symlink_to(root)
    elif kind == "dangling link":
        place.symlink_to(root / "nowhere")
    else:
        place.mkdir()
        if kind == "folder":
            (place / "theirs").write_text("theirs")

    with pytest.raises(OutputInvalid):
        move_into_place(publication)

    assert (root / ".staging/job-a-1/manifest.json").exists()


@pytest.mark.parametrize("level", ["team", "team/sub"])
def test_a_link_on_the_way_is_met_not_followed(root: Path, level: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / level).parent.mkdir(parents=True, exist_ok=True)
    (root / level).symlink_to(outside)
    publication = stage(root, "team/sub/result")

    with pytest.raises(OutputInvalid):
        check_free(root, publication.output_dir)
    with pytest.raises(OutputInvalid):
        move_into_place(publication)

    assert not any(outside.iterdir())


def test_a_staging_folder_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / ".staging").symlink_to(outside)
    publication = Publication(KEY, root, "result", "sha256:0")

    with pytest.raises(OutputInvalid):
        move_into_place(publication)


@pytest.mark.parametrize(
    "output_dir", ["", "/absolute", "../up", "a/../../b", ".staging/x", "a\0b", "x" * 300]
)
def test_a_path_that_leads_elsewhere_is_refused(root: Path, output_dir: str) -> None:
    with pytest.raises(OutputInvalid):
        check_free(root, output_dir)


@pytest.mark.parametrize("taken", ["a", "a/b"])
def test_a_free_place_is_told_from_a_taken_one(root: Path, taken: str) -> None:
    check_free(root, taken)
    (root / taken).mkdir(parents=True)

    with pytest.raises(OutputInvalid, match="taken"):
        check_free(root, taken)


def test_checking_makes_nothing(root: Path) -> None:
    check_free(root, "a/b/c")

    assert not any(root.iterdir())


@pytest.mark.parametrize("spoil", ["changed", "shorter", "missing", "extra", "link", "manifest"])
def test_a_result_that_is_not_what_its_manifest_says_is_refused(root: Path, spoil: str) -> None:
    publication = stage(root)
    folder = root / ".staging/job-a-1"
    weights = folder / "adapter_model.safetensors"
    data = weights.read_bytes()
    if spoil == "changed":
        weights.write_bytes(data[:-1] + b"?")
    elif spoil == "shorter":
        weights.write_bytes(data[:-1])
    elif spoil == "missing":
        weights.unlink()
    elif spoil == "extra":
        (folder / "stray").write_text("x")
    elif spoil == "link":
        weights.unlink()
        weights.symlink_to("/etc/hostname")
    else:
        (folder / "manifest.json").write_text("{}")

    with pytest.raises(StagedResultInvalid):
        verify_staged(publication)


def test_no_result_is_an_error_not_a_success(root: Path) -> None:
    with pytest.raises(StagedResultInvalid):
        verify_staged(Publication(KEY, root, "result", "sha256:0"))
    with pytest.raises(StagedResultInvalid):
        move_into_place(Publication(KEY, root, "result", "sha256:0"))
