"""The SDK's distribution stands alone: three packages, nothing of the server, no command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "clients" / "python"
_CODE = """
import tunewright, tunewright.errors
from tunewright import AsyncClient, Client
try:
    Client("127.0.0.1:1", timeout=0.1).jobs.get("a")
except tunewright.errors.Unavailable as error:
    print(tunewright.__file__, error)
"""


def run(*argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in argv], capture_output=True, text=True, check=check, timeout=110
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("alone")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # A build leaves folders behind, so it works on a copy.
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "source")
    [wheel] = folder.glob("tunewright-*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    interpreter = folder / "venv" / "bin" / "python"
    pinned = ["grpcio", "grpcio-status", "protobuf", "googleapis-common-protos"]
    pinned += ["typing-extensions"]
    frozen = run(*pip, "freeze").stdout.splitlines()
    exact = [one for one in frozen if one.partition("==")[0].lower().replace("_", "-") in pinned]
    run(*pip, "--python", interpreter, "install", "--no-deps", wheel, *exact)
    return interpreter


def test_the_wheel_works_with_its_three_requirements_alone(python: Path) -> None:
    done = run(python, "-c", _CODE)

    assert "site-packages" in done.stdout
    assert "cannot reach the scheduler at 127.0.0.1:1" in done.stdout


def test_the_command_says_what_it_needs(python: Path) -> None:
    done = run(python.with_name("tunewright"), "version", check=False)

    assert done.returncode == 2
    assert done.stderr == "error: the command line needs: pip install 'tunewright[cli]'\n"
