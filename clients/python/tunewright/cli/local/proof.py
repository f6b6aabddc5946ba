"""Whether a result is what its manifest says: hashes of every file, nothing else believed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def manifest_problems(folder: Path, manifest_digest: str) -> list[str]:
    """What is wrong with a published result; empty if everything holds.

    Args:
        manifest_digest: of manifest.json itself, "sha256:<hex>", as the job's record has it.
    """
    try:
        raw = (folder / "manifest.json").read_bytes()
        files = json.loads(raw)["files"]
    except (OSError, ValueError, KeyError) as error:
        return [f"manifest.json cannot be read: {error}"]
    problems = []
    if f"sha256:{hashlib.sha256(raw).hexdigest()}" != manifest_digest:
        problems.append("manifest.json is not the one that the job's record names")
    if "adapter_model.safetensors" not in files:
        problems.append("adapter_model.safetensors is not in the manifest")
    for name, wanted in sorted(files.items()):
        problem = _file_problem(folder / name, wanted)
        if problem:
            problems.append(f"{name} {problem}")
    return problems


def _file_problem(file: Path, wanted: dict[str, object]) -> str:
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    # With or without the algorithm's name in front.
    return "" if str(wanted["sha256"]).removeprefix("sha256:") == digest else "was changed"
