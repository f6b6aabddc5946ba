"""Finding the environment that ms-swift is in, or why there is none."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest
from tunewright.v1 import spec_pb2

from svckit.config import load_config
from svckit.spec import Backend
from tests.support.swift import swift_python
from trainer_svc.config import TrainerConfig
from trainer_svc.supervisor.swift_environment import find_swift
from trainer_svc.supervisor.system_info import capabilities_of


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with nothing in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def pretend(interpreter: Path, version: str) -> Path:
    """Metadata of an installed ms-swift."""
    site = next((interpreter.parents[1] / "lib").glob("python*/site-packages"))
    for old in site.glob("ms_swift-*"):
        (old / "METADATA").unlink()
        old.rmdir()
    info = site / f"ms_swift-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ms-swift\nVersion: {version}\n")
    return interpreter


def test_the_real_one_is_found_with_its_version() -> None:
    swift, why = find_swift(swift_python())

    assert why == ""
    assert swift is not None
    assert swift.version.startswith("4.")
    assert {"torch", "transformers", "peft"} <= swift.versions.keys()


@pytest.mark.parametrize("version", ["3.9.3", "4.0.0"])
def test_a_version_with_known_flags_is_taken(interpreter: Path, version: str) -> None:
    swift, why = find_swift(pretend(interpreter, version))

    assert swift is not None, why
    assert swift.version == version
    assert swift.python == interpreter  # its link, not what that points to


def test_each_reason_why_there_is_none_is_said(interpreter: Path, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 3\n")
    broken.chmod(0o755)

    reasons = [
        find_swift(python)[1]
        for python in (
            None,
            tmp_path / "missing",
            broken,
            Path(sys.executable),
            pretend(interpreter, "5.1.0"),
        )
    ]

    assert "--swift-python" in reasons[0]
    assert "No such file" in reasons[1]
    assert "no such library" in reasons[2]
    assert "ms-swift is not installed" in reasons[3]
    assert reasons[4] == "ms-swift 5.1.0 is not supported; 3.x and 4.x are"


def test_a_trainer_says_what_it_has(interpreter: Path, tmp_path: Path) -> None:
    flags = ["--workspace", str(tmp_path / "w")]
    pretend(interpreter, "4.2.0")

    without = load_config(TrainerConfig, flags).settings()
    having = load_config(TrainerConfig, [*flags, "--swift-python", str(interpreter)]).settings()

    told = capabilities_of(without, 1, "store")
    assert spec_pb2.BACKEND_SWIFT not in told.backends
    assert "--swift-python" in told.missing_backends["BACKEND_SWIFT"]
    told = capabilities_of(having, 1, "store")
    assert set(told.backends) == {spec_pb2.BACKEND_QLORA, spec_pb2.BACKEND_SWIFT}
    assert dict(told.backend_versions) == {"BACKEND_SWIFT": "4.2.0"}
    assert not told.missing_backends


def test_models_that_may_bring_code_are_named_as_specs_name_them(tmp_path: Path) -> None:
    flags = ["--workspace", str(tmp_path / "w")]
    flags += ["--trust-remote-code-models", "/models/odd/"]
    flags += ["--trust-remote-code-models", "org/odd"]

    settings = load_config(TrainerConfig, flags).settings()

    assert settings.trust_remote_code_models == {"/models/odd", "org/odd"}
    assert Backend.SWIFT in settings.missing_backends
