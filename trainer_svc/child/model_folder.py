"""What lies in a model's folder, judged by its files alone, before anything is loaded.

Owns the check that the weights are there, in safetensors and whole. Refuses, with
MODEL_INVALID and what to do: weights in pickles, which are never loaded because
opening one can run any code that it contains; a folder without weights; an index
that names missing files; files that are cut off; an adapter in the place of a model.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer_svc.child.failure import Cause, RunFailed

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PICKLES = ("pytorch_model*.bin", "model*.bin", "*.pt", "*.pth", "*.ckpt")
CONVERTER = "trainer_svc.child.convert_weights"
# Of the bits at the head of a safetensors file, how many hold the length of its header.
LENGTH_BYTES = 8
HEADER_BYTES_MAX = 100_000_000
"""The format's own limit."""
INDEX_BYTES_MAX = 100_000_000
NAMED_MAX = 3
GET_WHOLE = "Copy or download the model again; the file is not whole."


def require_weights(folder: Path, name: str) -> None:
    """Raises RunFailed unless `folder` has config.json and whole weights. `name` is the model's,
    for messages."""
    if (folder / ADAPTER).is_file():
        raise _refused(
            f"{name} holds an adapter ({ADAPTER}), not a base model",
            "Name the base model's folder; merge the adapter into it first if you want to train"
            " on top of it.",
        )
    _read_json(folder / "config.json", name)
    for file in weight_files(folder, name):
        _require_whole(file, name)


def weight_files(folder: Path, name: str) -> list[Path]:
    """The safetensors files that a loader reads. Raises RunFailed."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder, name)
    pickles = pickles_in(folder)
    if not pickles:
        raise _refused(
            f"{name} has no weights: neither {WEIGHTS} nor {INDEX} is in the folder",
            "Give the folder that holds config.json, the safetensors weights and the tokenizer.",
        )
    raise _refused(
        f"the weights of {name} are in pickles only ({_some(pickles)}), and pickles are never"
        " loaded: opening one can run any code that it contains",
        f"Convert them once with `{conversion_command(folder)}`, and name the new folder as the"
        " model.",
    )


def pickles_in(folder: Path) -> list[str]:
    """The names of files with weights that may run code when they are loaded."""
    return sorted({path.name for pattern in PICKLES for path in folder.glob(pattern)})


def conversion_command(folder: Path) -> str:
    """What a person runs on the trainer to have the weights in safetensors."""
    return shlex.join([sys.executable, "-m", CONVERTER, str(folder)])


def _shards(folder: Path, name: str) -> list[Path]:
    index = _read_json(folder / INDEX, name)
    named = index.get("weight_map")
    if not isinstance(named, dict) or not named or not all(map(_is_plain, named.values())):
        raise _refused(
            f"{INDEX} of {name} does not map tensors to files of the same folder", GET_WHOLE
        )
    files = sorted(set(named.values()))
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise _refused(
            f"{INDEX} of {name} names {len(files)} files, and {len(missing)} of them are missing:"
            f" {_some(missing)}",
            "Copy or download the missing files into the model's folder.",
        )
    return [folder / file for file in files]


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value


def _require_whole(file: Path, name: str) -> None:
    """A safetensors file says in its header where its last tensor ends."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(LENGTH_BYTES)
        length = int.from_bytes(head, "little")
        if head.startswith(b"version "):
            raise _refused(
                f"{file.name} of {name} is a Git LFS pointer, not the weights",
                "Fetch the weights with `git lfs pull` in the model's folder.",
            )
        if len(head) < LENGTH_BYTES or length > min(size - LENGTH_BYTES, HEADER_BYTES_MAX):
            raise _refused(f"{file.name} of {name} is cut off or not a safetensors file", GET_WHOLE)
        header = stream.read(length)
    expected = LENGTH_BYTES + length + _data_bytes(header, file, name)
    if size < expected:
        raise _refused(
            f"{file.name} of {name} is cut off: it has {size:,} of {expected:,} bytes", GET_WHOLE
        )


def _data_bytes(header: bytes, file: Path, name: str) -> int:
    try:
        tensors = json.loads(header)
        ends = [one["data_offsets"][1] for key, one in tensors.items() if key != "__metadata__"]
        return int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise _refused(f"{file.name} of {name} is not a safetensors file", GET_WHOLE) from None


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > INDEX_BYTES_MAX:
            raise ValueError
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError
    except FileNotFoundError:
        raise _refused(
            f"{name} is not a model folder: it has no {path.name}",
            "Give the folder that holds config.json, the safetensors weights and the tokenizer.",
        ) from None
    except (ValueError, RecursionError):
        raise _refused(f"{path.name} of {name} is not a JSON object", GET_WHOLE) from None
    return document


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(name[:100] for name in names[:NAMED_MAX]) + (
        f" and {more} more" if more > 0 else ""
    )


def _refused(message: str, hint: str) -> RunFailed:
    return RunFailed(Cause.MODEL_INVALID, message, hint)
