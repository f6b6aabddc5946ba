"""Which models and data a run may read."""

from pathlib import Path

import pytest

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.locations import HubId, find_data, find_model, split_limit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    model = root / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    (root / "data.jsonl").write_text("")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    (outside / "data.jsonl").write_text("")
    (root / "link").symlink_to(outside)
    (root / "link.jsonl").symlink_to(outside / "data.jsonl")
    (root / "empty").mkdir()
    return root


def test_a_folder_and_a_file_inside_are_found(root: Path) -> None:
    assert find_model(str(root / "model"), "", [root], False) == root / "model"
    assert find_data(str(root / "data.jsonl"), [root], False) == root / "data.jsonl"


@pytest.mark.parametrize("name", ["../outside", "link", "model/../../outside", "../nothing"])
def test_a_model_outside_the_roots_is_refused(root: Path, name: str) -> None:
    with pytest.raises(RunFailed, match="outside the model roots") as caught:
        find_model(f"{root}/{name}", "", [root], True)

    assert caught.value.cause is Cause.MODEL_INVALID
    assert f"{root}/{name}" in str(caught.value)
    assert f"({root})" in str(caught.value)


@pytest.mark.parametrize("name", ["../outside/data.jsonl", "link.jsonl", "link/data.jsonl"])
def test_data_outside_the_roots_is_refused(root: Path, name: str) -> None:
    with pytest.raises(RunFailed, match="outside the data roots") as caught:
        find_data(f"{root}/{name}", [root], True)

    assert caught.value.cause is Cause.DATASET_INVALID


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "does not exist"),
        ("empty", "no config.json"),
        ("no\0thing", "is no path"),
        ("\ud800", "is no path"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(root: Path, name: str, message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        find_model(f"{root}/{name}", "", [root], True)


def test_a_name_is_a_hub_id_only_if_it_looks_like_one_and_hubs_are_allowed(root: Path) -> None:
    assert find_model("owner/name", "v1", [root], True) == HubId("owner/name", "v1")
    with pytest.raises(RunFailed, match="downloads nothing"):
        find_model("owner/name", "", [root], False)
    for name in ("name", "a/b/c", "../no-such-folder", ""):
        with pytest.raises(RunFailed, match="no such model folder"):
            find_model(name, "", [root], True)


def test_a_folder_is_no_data_file(root: Path) -> None:
    with pytest.raises(RunFailed, match="is not a file"):
        find_data(str(root / "empty"), [root], True)


def test_the_number_of_samples_is_told_from_the_name(root: Path) -> None:
    odd = root / "odd#3"
    odd.write_text("")

    assert split_limit("/data/a.json#500") == ("/data/a.json", 500)
    assert split_limit("/data/a.json") == ("/data/a.json", None)
    assert split_limit(str(odd)) == (str(odd), None)
    assert split_limit(f"{odd}#2") == (str(odd), 2)
