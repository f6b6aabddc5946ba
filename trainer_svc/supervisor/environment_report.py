"""What is installed in a Python environment: python environment_report.py DISTRIBUTION ...

Stands alone: the environment's own Python runs it, with its standard library
and nothing of ours; the trainer also calls it for the environment that it runs
in. Imports no library: reads metadata, and what lies in their folders. Prints
a JSON object.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Libraries of torch that an extension names where it is linked against them.
_OF_TORCH = re.compile(rb"\0(lib(?:c10|torch)\w*\.so)(?=\0)")
_TYPE = re.compile(r"^\s+\w+ = '([\w.-]+)'", re.MULTILINE)
# Where ms-swift 4, and ms-swift 3, keep their list.
_SWIFT_TYPES = ("model/constant.py", "llm/model/constant.py")


def report(distributions: Iterable[str]) -> dict[str, Any]:
    """{"versions", "model_types", "swift_types", "torchvision"}: see domain/families.py."""
    return {
        "versions": versions(distributions),
        "model_types": model_types(),
        "swift_types": swift_types(),
        "torchvision": what_is_wrong_with_torchvision(),
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def model_types() -> list[str]:
    """The models that transformers has modules for."""
    folder = folder_of("transformers")
    if folder is None or not (folder / "models").is_dir():
        return []
    return sorted(one.parent.name for one in (folder / "models").glob("*/__init__.py"))


def swift_types() -> list[str]:
    """The types of models that ms-swift knows."""
    folder = folder_of("swift")
    for file in _SWIFT_TYPES if folder else ():
        assert folder is not None
        if (folder / file).is_file():
            text = (folder / file).read_text(encoding="utf-8", errors="replace")
            return sorted(set(_TYPE.findall(text)))
    return []


def what_is_wrong_with_torchvision() -> str:
    """Why its compiled operators do not load; "" if they do, or if it is not installed."""
    torchvision, torch = folder_of("torchvision"), folder_of("torch")
    if torchvision is None or torch is None:
        return ""
    extension = next(torchvision.glob("_C*.so"), None)
    if extension is None:
        return "has no compiled extension"
    linked = {name.decode() for name in _OF_TORCH.findall(extension.read_bytes())}
    absent = sorted(name for name in linked if not (torch / "lib" / name).exists())
    if absent:
        return f"was built for another build of torch (without {', '.join(absent)})"
    found = versions(["torch", "torchvision"])
    wanted = torch_wanted()
    if wanted and wanted != found.get("torch", "").partition("+")[0]:
        return f"{found.get('torchvision')} was built for torch {wanted}, not {found.get('torch')}"
    return ""


def torch_wanted() -> str:
    """The release of torch that torchvision asks for; "" if it does not say."""
    try:
        requires = importlib.metadata.requires("torchvision") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    found = (re.fullmatch(r"torch\s*\(?==\s*([\w.]+)\)?", one.strip()) for one in requires)
    return next((match[1] for match in found if match), "")


def folder_of(package: str) -> Path | None:
    """Where a package lies, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1:])))
