"""Whether a model's folder brings code that ms-swift would run.

ms-swift loads every model with trust_remote_code and has no flag against it, so
this looks before any of its processes may touch the folder. Owns what counts as
code: a .py file, an "auto_map" anywhere in a JSON file, which may also name code
that lies elsewhere, and the plugins of an args.json; so does what cannot be
looked through: a link to a folder elsewhere, and JSON that is nested too deep.
Refuses such a folder (RunFailed, MODEL_INVALID) unless an administrator allowed it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer_svc.child.failure import Cause, RunFailed

# Keys with which the libraries find code; the latter two in ms-swift's args.json.
CODE_KEYS = frozenset({"auto_map", "external_plugins", "custom_register_path"})
# An index of weights has no room for one, and may have a hundred megabytes.
WEIGHT_INDEX = ".index.json"


def require_no_code(folder: Path, name: str, trusted: bool) -> None:
    """Raises RunFailed for a model that brings code, unless it is trusted."""
    if trusted:
        return
    for found in code_in(folder):
        raise RunFailed(
            Cause.MODEL_INVALID,
            f"model {name} brings code of its own ({found}), which ms-swift would run",
            "Use a model without code of its own, or have an administrator of the trainer allow"
            " it for this model.",
        )


def code_in(folder: Path) -> Iterator[str]:
    """What in the folder is code or leads to it, for a person."""
    for path in sorted(folder.rglob("*")):
        where = path.relative_to(folder).as_posix()
        suffix = path.suffix.lower()
        if _leads_elsewhere(path, folder):
            yield f"{where} leads to another folder"
        elif suffix in (".py", ".pyc", ".so"):
            yield where
        elif suffix == ".json" and path.is_file() and not path.name.endswith(WEIGHT_INDEX):
            try:
                key = _code_key(_read(path))
            except RecursionError:
                key = "a nesting too deep to look through"
            if key:
                yield f"{key} in {where}"


def _leads_elsewhere(path: Path, folder: Path) -> bool:
    """Whether it is a link to a folder that is not looked through here. Files are linked in the
    caches of hubs, and read like others."""
    if not path.is_symlink() or not path.is_dir():
        return False
    return not path.resolve().is_relative_to(folder.resolve())


def _read(path: Path) -> Any:
    """Raises RecursionError."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        # Python's reader is the one that the libraries use: what it cannot read maps nothing.
        return None


def _code_key(value: Any) -> str:
    """The key as it stands in `value`, however deep ("text_config.auto_map"); "" without."""
    found: list[tuple[str, Any]] = [("", value)]
    while found:
        path, part = found.pop()
        if isinstance(part, list):
            found += [(path, item) for item in part]
        if not isinstance(part, dict):
            continue
        for key in CODE_KEYS & part.keys():
            if part[key]:
                return f"{path}{key}"
        found += [(f"{path}{key}.", item) for key, item in part.items()]
    return ""
