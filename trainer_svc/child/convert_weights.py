"""Writes a model whose weights are in pickles as a new folder with safetensors.

python -m trainer_svc.child.convert_weights FOLDER [--out NEW_FOLDER]

Owns the one place where a pickle is opened: with weights_only, so that torch
makes tensors of it and runs nothing. The new folder, by default beside the old
one, appears only when it is whole; nothing in FOLDER is changed. Each tensor is
written under its own name, also where two shared their memory, because
safetensors has no shared tensors. Refuses pickles with anything but tensors, and
a folder that is there already (one line on stderr, exit code 1).
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# What a loader reads besides weights.
COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.py")
COPIED_FOLDER = "additional_chat_templates"
SHARD_BYTES_MAX = 5_000_000_000


class NotConverted(Exception):
    """Why there is no new folder, in a sentence."""


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    options = _parser().parse_args(arguments)
    folder: Path = options.folder.resolve()
    out: Path = (options.out or folder.with_name(f"{folder.name}-safetensors")).absolute()
    try:
        tensors, size_bytes = convert(folder, out, options.shard_bytes)
    except (NotConverted, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {tensors} tensors, {size_bytes:,} bytes in safetensors")
    return 0


def convert(folder: Path, out: Path, shard_bytes_max: int = SHARD_BYTES_MAX) -> tuple[int, int]:
    """Makes `out`; how many tensors it has, and their bytes. Raises NotConverted, OSError."""
    if not (folder / "config.json").is_file():
        raise NotConverted(f"{folder} is not a model folder: it has no config.json")
    if out.exists():
        raise NotConverted(f"{out} is there already; remove it, or give another --out")
    pickles = _pickles(folder)
    aside = Path(mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        writer = _Writer(aside, shard_bytes_max)
        for pickle in pickles:
            for name, tensor in _tensors(pickle):
                writer.add(name, tensor)
        writer.finish()
        _copy_rest(folder, aside)
        aside.chmod(folder.stat().st_mode & 0o777)
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return writer.tensors, writer.size_bytes


def _pickles(folder: Path) -> list[Path]:
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    try:
        named = set(json.loads((folder / INDEX).read_bytes())["weight_map"].values())
        plain = all(name == Path(name).name for name in named)
    except FileNotFoundError:
        raise NotConverted(f"{folder} has neither {SINGLE} nor {INDEX}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        named, plain = set(), False
    if not plain or not named:
        raise NotConverted(f"{folder / INDEX} does not map tensors to files of the same folder")
    missing = sorted(name for name in named if not (folder / name).is_file())
    if missing:
        raise NotConverted(f"{INDEX} names files that are missing: {', '.join(missing[:3])}")
    return [folder / name for name in sorted(named)]


def _tensors(pickle: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    import torch

    loaded = _load(pickle)
    if not isinstance(loaded, dict) or not loaded:
        raise NotConverted(f"{pickle} holds no tensors by name")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise NotConverted(
                f"{pickle} holds {str(name)[:80]!r}, which is not a tensor: it is a checkpoint of"
                " another kind, not a model's weights"
            )
        if value.layout is not torch.strided or value.is_quantized:
            raise NotConverted(f"{pickle}: {name} is not a plain tensor")
        yield name, value.detach()


def _load(pickle: Path) -> Any:
    import torch

    with pickle.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        # A zipped one is mapped: no more than a tensor of it is in memory at a time.
        return torch.load(pickle, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
        raise NotConverted(f"{pickle} cannot be loaded as tensors alone: {first}") from None


class _Writer:
    """Writes tensors to safetensors files of a bounded size."""

    def __init__(self, folder: Path, shard_bytes_max: int) -> None:
        self._folder = folder
        self._shard_bytes_max = shard_bytes_max
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[list[str]] = []
        self._names: set[str] = set()
        self.size_bytes = 0

    @property
    def tensors(self) -> int:
        """How many were added."""
        return len(self._names)

    def add(self, name: str, tensor: "torch.Tensor") -> None:
        """Raises NotConverted for a name that was there before."""
        import torch

        if name in self._names:
            raise NotConverted(f"two files hold a tensor with the name {name}")
        size_bytes = tensor.numel() * tensor.element_size()
        if self._pending and self._pending_bytes + size_bytes > self._shard_bytes_max:
            self._flush()
        self._names.add(name)
        # A copy: safetensors takes neither shared memory nor strides.
        self._pending[name] = torch.clone(tensor, memory_format=torch.contiguous_format)
        self._pending_bytes += size_bytes
        self.size_bytes += size_bytes

    def finish(self) -> None:
        """Writes what is left, and the index if there are several files."""
        self._flush()
        count = len(self._shards)
        if count == 1:
            self._part(0).rename(self._folder / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            file = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
            self._part(number).rename(self._folder / file)
            weight_map |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self.size_bytes}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True)
        (self._folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number}.safetensors"

    def _flush(self) -> None:
        from safetensors.torch import save_file

        save_file(self._pending, self._part(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(sorted(self._pending))
        self._pending = {}
        self._pending_bytes = 0


def _copy_rest(folder: Path, out: Path) -> None:
    for pattern in COPIED:
        for file in folder.glob(pattern):
            if file.is_file() and not file.name.endswith(".index.json"):
                shutil.copyfile(file, out / file.name)
    if (folder / COPIED_FOLDER).is_dir():
        shutil.copytree(folder / COPIED_FOLDER, out / COPIED_FOLDER)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="convert_weights", description="Writes a model's weights as safetensors."
    )
    parser.add_argument("folder", type=Path, help="model folder with pytorch_model.bin")
    parser.add_argument("--out", type=Path, help="new folder (default: FOLDER-safetensors)")
    parser.add_argument(
        "--shard-bytes",
        type=_positive,
        default=SHARD_BYTES_MAX,
        help="size of a file from which on the next begins (default: 5 GB)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
