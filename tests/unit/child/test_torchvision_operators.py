"""torchvision without its compiled extension: importable, in our Python and in ms-swift's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.swift import swift_python
from trainer_svc.child.startup import torchvision_operators
from trainer_svc.child.swift.environment import STARTUP

# A torchvision whose extension does not load: what its own package does, cut down.
EXTENSION = """
def _has_ops():
    return {has_ops}
"""
REGISTERS = """
import torch
from . import extension
for name in {names}:
    torch.library.register_fake("torchvision::" + name, lambda *given: None)
"""
LOOKS = """
import sys
from trainer_svc.child.startup import torchvision_operators as ours
assert "torch" not in sys.modules
ours.install()
import torch, torchvision
print(ours.are_declared())
try:
    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except NotImplementedError as error:
    print(error)
"""


def python(
    code: str, *path: Path, executable: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    argv = [executable, "-c", code]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=100)


def package(folder: Path, has_ops: bool) -> Path:
    """A folder with a package torchvision that needs every operator."""
    names = [schema.partition("(")[0] for schema in torchvision_operators.SCHEMAS]
    own = folder / "torchvision"
    own.mkdir()
    (own / "extension.py").write_text(EXTENSION.format(has_ops=has_ops))
    (own / "__init__.py").write_text(REGISTERS.format(names=names))
    return folder


def test_an_extension_that_does_not_load_gets_its_operators_declared(tmp_path: Path) -> None:
    done = python(LOOKS, package(tmp_path, has_ops=False))

    declared, refusal = done.stdout.splitlines()
    assert declared == "True", done.stderr
    assert refusal.startswith("torchvision::nms is declared only")


def test_an_extension_that_loads_is_left_alone(tmp_path: Path) -> None:
    done = python(LOOKS, package(tmp_path, has_ops=True))

    # As torchvision would fail without its operators: nothing was declared in their place.
    assert done.returncode == 1
    assert "operator torchvision::nms does not exist" in done.stderr


@pytest.mark.parametrize("environment", ["ours", "ms-swift's"])
def test_the_torchvision_that_is_installed_can_be_imported(environment: str) -> None:
    code = "import torchvision.transforms.v2.functional as f; print(f.resize.__module__)"
    if environment == "ours":
        done = python(f"import trainer_svc.child; {code}")
    else:
        done = python(code, STARTUP, executable=str(swift_python()))

    assert done.returncode == 0, done.stderr
    assert "torchvision" in done.stdout


def test_a_sitecustomize_of_the_environment_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.hidden = __file__")
    code = "import sys; print(sys.hidden, 'torch' in sys.modules, len(sys.meta_path))"

    done = python(code, STARTUP, tmp_path)

    hidden, torch, finders = done.stdout.split()
    assert hidden == str(tmp_path / "sitecustomize.py")
    assert torch == "False"
    assert int(finders) > 3
    assert str(STARTUP) not in python("import sys; print(sys.path)", STARTUP).stdout
