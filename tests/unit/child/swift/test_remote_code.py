"""What counts as code that a model brings."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.swift.remote_code import require_no_code

MAPPED = {"AutoModelForCausalLM": "modeling.Canary"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"def": 1}}}')
    return tmp_path


def test_a_model_of_data_alone_is_let_through(folder: Path) -> None:
    require_no_code(folder, "tiny", trusted=False)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("config.json", {"auto_map": MAPPED}),
        ("config.json", {"text_config": {"auto_map": MAPPED}}),
        ("config.json", {"parts": [{"deep": {"auto_map": MAPPED}}]}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization.Canary", None]}}),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "processing.Canary"}}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "other/repo--a.B"}}),
        ("below/config.json", {"auto_map": MAPPED}),
        ("args.json", {"external_plugins": ["/somewhere/plugin.py"]}),
    ],
)
def test_a_map_to_code_in_any_json_file_is_refused(
    folder: Path, name: str, document: dict[str, Any]
) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document))

    with pytest.raises(RunFailed) as caught:
        require_no_code(folder, "tiny", trusted=False)

    assert caught.value.cause is Cause.MODEL_INVALID
    assert f"in {name}" in str(caught.value)


@pytest.mark.parametrize("name", ["modeling.py", "below/CONFIGURATION.PY", "kernel.so"])
def test_a_file_of_code_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("")

    with pytest.raises(RunFailed, match="brings code"):
        require_no_code(folder, "tiny", trusted=False)


def test_a_trusted_model_may_bring_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("")

    require_no_code(folder, "tiny", trusted=True)


def test_an_empty_map_and_json_that_nobody_can_read_are_no_code(folder: Path) -> None:
    (folder / "config.json").write_text('{"auto_map": null}')
    (folder / "notes.json").write_text("not JSON")

    require_no_code(folder, "tiny", trusted=False)


def test_a_link_to_a_folder_elsewhere_is_refused(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "model" / "below").symlink_to(folder / "elsewhere")

    with pytest.raises(RunFailed, match="below leads to another folder"):
        require_no_code(folder / "model", "tiny", trusted=False)
    require_no_code(folder / "model", "tiny", trusted=True)


def test_links_to_files_elsewhere_and_to_folders_inside_are_let_through(folder: Path) -> None:
    snapshot = folder / "snapshots" / "1"
    (snapshot / "parts").mkdir(parents=True)
    (snapshot / "config.json").symlink_to(folder / "config.json")
    (snapshot / "same").symlink_to("parts")

    require_no_code(snapshot, "tiny", trusted=False)


def test_json_that_is_nested_too_deep_to_look_through_is_refused(folder: Path) -> None:
    (folder / "deep.json").write_text("[" * 100_000 + "]" * 100_000)

    with pytest.raises(RunFailed, match=r"too deep to look through in deep\.json"):
        require_no_code(folder, "tiny", trusted=False)
