"""Pins: one commit for a name, for as long as the job lives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.pins import Pins, Repository, RepositoryKind

MODEL = Repository(RepositoryKind.MODEL, "acme/tiny", "main")
DATASET = Repository(RepositoryKind.DATASET, "acme/tiny", "")


def test_the_first_commit_stands(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "jobs" / "j" / "pins.json")

    first, second = pins.put(MODEL, "a" * 40), pins.put(MODEL, "b" * 40)

    assert (first, second) == ("a" * 40, "a" * 40)
    assert pins.every() == {"acme/tiny": "a" * 40}


def test_a_model_and_a_data_set_may_have_the_same_name(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "pins.json")

    pins.put(MODEL, "a" * 40)
    pins.put(DATASET, "b" * 40)

    assert pins.every() == {"acme/tiny": "a" * 40, "datasets/acme/tiny": "b" * 40}


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"acme/tiny": 7})])
def test_a_file_that_cannot_be_read_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pins.json"
    file.write_text(content)

    with pytest.raises(RunFailed) as refused:
        Pins(file).put(MODEL, "a" * 40)

    assert refused.value.cause is Cause.CHECKPOINT_INVALID
    assert file.read_text() == content
