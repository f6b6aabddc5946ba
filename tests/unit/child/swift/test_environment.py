"""What programs of ms-swift's environment get to see of the trainer's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.child.swift.swift_runs import make_swift_folder
from trainer_svc.child.run_spec import RunSpec, read_run_spec
from trainer_svc.child.swift.environment import STARTUP, looking_environment, training_environment

TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")


def make_run(tmp_path: Path, **swift: Any) -> RunSpec:
    folder = make_swift_folder(
        tmp_path / "job", tmp_path, tmp_path, Path("none"), spec={"swift": swift}
    )
    return read_run_spec(folder.path)


@pytest.mark.parametrize(
    "name",
    [
        *("PAI_TRAINING_JOB_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "NNODES", "NPROC_PER_NODE"),
        *("MAX_PIXELS", "ROOT_IMAGE_DIR", "PYTHONHOME"),
    ],
)
def test_what_would_change_the_run_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OF_THE_HOST", "1")

    environment = training_environment(make_run(tmp_path), tmp_path, uses_hub=False)

    assert name not in environment
    assert environment["OF_THE_HOST"] == "1"


def test_of_our_own_modules_it_sees_the_startup_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")

    environment = training_environment(make_run(tmp_path), tmp_path, uses_hub=False)

    assert environment["PYTHONPATH"] == str(STARTUP)
    assert (STARTUP / "sitecustomize.py").is_file()


@pytest.mark.parametrize(("use_hf", "said"), [(True, "1"), (False, "0")])
def test_the_spec_says_which_hub_and_the_output_is_not_silenced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_hf: bool, said: str
) -> None:
    monkeypatch.setenv("USE_HF", "yes")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")

    environment = training_environment(make_run(tmp_path, use_hf=use_hf), tmp_path, uses_hub=False)

    assert environment["USE_HF"] == said
    assert environment["LOG_LEVEL"] == "INFO"


@pytest.mark.parametrize("token", TOKENS)
def test_only_what_downloads_gets_the_tokens_of_hubs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(token, "secret")
    run = make_run(tmp_path)

    assert token not in training_environment(run, tmp_path, uses_hub=False)
    assert token not in looking_environment(run, tmp_path, uses_hub=False)
    assert looking_environment(run, tmp_path, uses_hub=True)[token] == "secret"


def test_git_clones_from_elsewhere_for_a_trusted_model_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    trusted = replace(run, trust_remote_code=True)

    assert training_environment(run, tmp_path, uses_hub=False)["GIT_ALLOW_PROTOCOL"] == "file"
    assert "GIT_ALLOW_PROTOCOL" not in training_environment(trusted, tmp_path, uses_hub=False)


def test_modelscope_cannot_be_reached_where_downloads_are_not_allowed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    allowed = replace(run, allow_hub=True)

    closed = training_environment(run, tmp_path, uses_hub=False)

    assert closed["MODELSCOPE_ENDPOINT"] == "http://127.0.0.1:1"
    assert closed["MODELSCOPE_DOMAIN"] == "127.0.0.1:1"
    assert "MODELSCOPE_ENDPOINT" not in training_environment(allowed, tmp_path, uses_hub=True)
