"""A folder with a manifest.json that holds the hash of every other file in it.

Owns: writing and proving such folders (checkpoints and results). Refuses, when
proving, a missing, changed or unlisted file and any name that leads elsewhere:
an unlisted optimizer file next to proven ones would be loaded all the same.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trainer_svc.child.durable import files_below, sha256_hex, sync_tree, write_atomically

MANIFEST = "manifest.json"


class ManifestBroken(Exception):
    """A folder is not what its manifest says; the message names the first file at fault."""


@dataclass(frozen=True)
class Sealed:
    """A folder whose manifest is written."""

    digest: str
    size_bytes: int


def seal(folder: Path, fields: Mapping[str, Any]) -> Sealed:
    """Hashes every file below `folder`, writes the manifest, makes all of it durable.

    Returns the digest of manifest.json ("sha256:<hex>") and the size of all files
    in bytes, the manifest included.
    """
    files: dict[str, dict[str, Any]] = {}
    for path in files_below(folder):
        size_bytes = path.stat().st_size
        name = path.relative_to(folder).as_posix()
        files[name] = {"sha256": sha256_hex(path), "size_bytes": size_bytes}
    text = json.dumps({**fields, "files": files}, ensure_ascii=False, indent=1, sort_keys=True)
    data = text.encode()
    sync_tree(folder)
    write_atomically(folder / MANIFEST, data)
    size_all = sum(entry["size_bytes"] for entry in files.values()) + len(data)
    return Sealed(digest=digest_of(data), size_bytes=size_all)


def digest_of(manifest: bytes) -> str:
    """The digest of a manifest's bytes, as "sha256:<hex>"."""
    return "sha256:" + hashlib.sha256(manifest).hexdigest()


def read(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, not yet proven. Raises ManifestBroken."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestBroken(f"{folder / MANIFEST} cannot be read: {error}") from error
    files: Any = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(_is_entry(entry) for entry in files.values()):
        raise ManifestBroken(f"{folder / MANIFEST} is not a manifest")
    return manifest  # type: ignore[no-any-return]  # proven to be a dict just now


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    return isinstance(entry.get("sha256"), str) and isinstance(entry.get("size_bytes"), int)


def prove(folder: Path) -> dict[str, Any]:
    """The manifest of `folder`, after every hash in it held. Raises ManifestBroken."""
    manifest = read(folder)
    files: dict[str, Any] = manifest["files"]
    for name, entry in files.items():
        _prove_file(folder, name, entry)
    found = {path.relative_to(folder).as_posix() for path in files_below(folder)} - {MANIFEST}
    for name in sorted(found - files.keys()):
        raise ManifestBroken(f"{folder / name} is not in the manifest")
    return manifest


def _prove_file(folder: Path, name: str, entry: Mapping[str, Any]) -> None:
    path = folder / name
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise ManifestBroken(f"the manifest of {folder} names {name!r}, outside the folder")
    if path.is_symlink() or not path.is_file():
        raise ManifestBroken(f"{path} is missing")
    if path.stat().st_size != entry["size_bytes"]:
        raise ManifestBroken(f"{path} has not the size in the manifest")
    if sha256_hex(path) != entry["sha256"]:
        raise ManifestBroken(f"{path} has not the hash in the manifest")
