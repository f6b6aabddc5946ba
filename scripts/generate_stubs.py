"""Generates clients/python/tunewright/v1 from protos/, or checks that it is up to date.

Uses grpc_tools at the pinned version, so that stubs and runtime agree. With
`--check` nothing is written; the exit code is 1 when the committed stubs
differ from what the protos give.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "clients" / "python" / "tunewright" / "v1"
INIT = '"""Generated from protos/ by scripts/generate_stubs.py; never edited."""\n'


def generate(target: Path) -> None:
    """Writes the stubs of every proto below `target`; raises SystemExit on a proto error."""
    sources = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    bin_dir = Path(sys.executable).parent
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools').joinpath('_proto')}",
            f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *sources,
        ]
    )
    if code != 0:
        raise SystemExit(code)
    (target / "tunewright" / "v1" / "__init__.py").write_text(INIT, encoding="utf-8")


def drifted(fresh: Path) -> list[str]:
    """Names of stub files that are missing, left over or different."""
    names = {path.name for path in (*fresh.iterdir(), *STUBS.iterdir()) if path.is_file()}
    _, different, odd = filecmp.cmpfiles(fresh, STUBS, sorted(names), shallow=False)
    return sorted([*different, *odd])


def main() -> int:
    """Writes the stubs, or with --check compares them; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "tunewright" / "v1"
        if "--check" in sys.argv[1:]:
            names = drifted(fresh)
            for name in names:
                print(f"stub is out of date, run 'make stubs': {name}")
            return 1 if names else 0
        shutil.rmtree(STUBS, ignore_errors=True)
        shutil.copytree(fresh, STUBS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
