"""A model's folder is judged by its files alone, before anything is loaded."""

import json
import struct
from pathlib import Path

import pytest

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.model_folder import require_weights


def safetensors(data_bytes: int = 8, declared: int | None = None) -> bytes:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, declared or data_bytes]}
    header = json.dumps({"w": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * data_bytes


def folder_with(root: Path, **files: bytes) -> Path:
    for name, content in {"config.json": b"{}", **files}.items():
        (root / name).write_bytes(content)
    return root


def refusal_of(folder: Path) -> RunFailed:
    with pytest.raises(RunFailed) as caught:
        require_weights(folder, "tiny")
    assert caught.value.cause is Cause.MODEL_INVALID
    return caught.value


def index(**files: object) -> bytes:
    return json.dumps({"weight_map": files}).encode()


def test_whole_weights_are_taken(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    single = folder_with(tmp_path / "one", **{"model.safetensors": safetensors()})
    sharded = folder_with(
        tmp_path / "two",
        **{
            "model.safetensors.index.json": index(a="a.safetensors", b="b.safetensors"),
            "a.safetensors": safetensors(),
            "b.safetensors": safetensors(),
            # Beside them, pickles do no harm: nothing reads them.
            "pytorch_model.bin": b"x",
        },
    )

    require_weights(single, "tiny")
    require_weights(sharded, "tiny")


def test_pickles_alone_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"pytorch_model.bin": b"x"})

    refused = refusal_of(folder)

    assert str(refused) == (
        "the weights of tiny are in pickles only (pytorch_model.bin), and pickles are never loaded:"
        " opening one can run any code that it contains"
    )
    assert f"-m trainer_svc.child.convert_weights {folder}`" in refused.hint


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "tiny has no weights: neither model.safetensors nor model.safetensors.index.json"),
        ({"config.json": b"[]"}, "config.json of tiny is not a JSON object"),
        ({"config.json": b"{"}, "config.json of tiny is not a JSON object"),
        ({"adapter_config.json": b"{}"}, "tiny holds an adapter (adapter_config.json)"),
        (
            {"model.safetensors.index.json": index(a="a.safetensors", b="b.safetensors")},
            "names 2 files, and 2 of them are missing: a.safetensors, b.safetensors",
        ),
        ({"model.safetensors.index.json": index(a="../a")}, "does not map tensors to files"),
        ({"model.safetensors.index.json": index(a=7)}, "does not map tensors to files"),
        ({"model.safetensors.index.json": b"{}"}, "does not map tensors to files"),
        ({"model.safetensors": b""}, "model.safetensors of tiny is cut off"),
        ({"model.safetensors": b"\xff" * 64}, "is cut off or not a safetensors file"),
        ({"model.safetensors": struct.pack("<Q", 2) + b"[]"}, "is not a safetensors file"),
        (
            {"model.safetensors": safetensors(8, declared=4096)},
            "model.safetensors of tiny is cut off: it has",
        ),
        (
            {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"},
            "is a Git LFS pointer",
        ),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    folder = folder_with(tmp_path, **files)

    refused = refusal_of(folder)

    assert message in str(refused)


def test_a_folder_without_config_is_not_a_model(tmp_path: Path) -> None:
    refused = refusal_of(tmp_path)

    assert str(refused) == "tiny is not a model folder: it has no config.json"
