"""Which families a backend can train, judged by what its environment reports of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from svckit.spec import Backend
from tests.support.swift import swift_python
from tests.unit.child.families.pictures import FAMILIES as TRIED
from trainer_svc.domain.families import (
    FAMILIES,
    Environment,
    families_of,
    features_of,
    packages_asked_for,
)
from trainer_svc.supervisor import environment_report
from trainer_svc.supervisor.swift_environment import find_swift, own_environment


def everything(**less: object) -> Environment:
    types = frozenset(family.model_type for family in FAMILIES)
    swift = frozenset(family.swift_type for family in FAMILIES if family.swift_type)
    return Environment(dict.fromkeys(packages_asked_for(), "1"), types, swift, **less)  # type: ignore[arg-type]


def without(package: str) -> Environment:
    whole = everything()
    versions = {name: one for name, one in whole.versions.items() if name != package}
    return Environment(versions, whole.model_types, whole.swift_types)


def lacking(backend: Backend, package: str) -> set[str]:
    found = families_of(backend, without(package))
    return {one.family.title for one in found if package in one.missing_packages}


def test_where_everything_is_installed_every_family_trains_with_qlora() -> None:
    found = list(families_of(Backend.QLORA, everything()))

    assert [one.family for one in found] == list(FAMILIES)
    assert not [one for one in found if one.missing_packages or one.unsupported]


def test_each_missing_package_is_named_with_the_families_that_take_it() -> None:
    pictures = {family.title for family in FAMILIES if family.reads_pictures}

    assert lacking(Backend.QLORA, "torchvision") == pictures
    assert lacking(Backend.QLORA, "num2words") == {"SmolVLM2"}
    assert lacking(Backend.SWIFT, "qwen-vl-utils") == {"Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL"}
    assert lacking(Backend.QLORA, "qwen-vl-utils") == set()
    features = {one.feature: one.missing_packages for one in features_of(without("sentencepiece"))}
    assert features["tokenizer.model alone"] == ["sentencepiece"]
    assert features["LoRA on 4-bit weights"] == []


def test_libraries_that_do_not_know_a_family_are_named() -> None:
    whole = everything()
    older = Environment(whole.versions, whole.model_types - {"qwen3_vl"}, whole.swift_types)

    found = {one.family.title: one for one in families_of(Backend.SWIFT, older)}

    assert found["Qwen3-VL"].missing_packages == ["transformers that knows qwen3_vl"]
    assert "no type" in found["SmolVLM2"].unsupported
    assert found["Qwen2.5-VL"].missing_packages == []


@pytest.mark.parametrize("backend", [Backend.QLORA, Backend.SWIFT])
def test_the_environments_that_are_installed_train_all_of_the_table(backend: Backend) -> None:
    if backend is Backend.SWIFT:
        swift, why = find_swift(swift_python())
        assert swift is not None, why
        environment = swift.environment
    else:
        environment = own_environment()

    found = list(families_of(backend, environment))

    assert not [(one.family.title, one.missing_packages) for one in found if one.missing_packages]
    unsupported = {one.family.title for one in found if one.unsupported}
    assert unsupported == ({"SmolLM3", "SmolVLM2"} if backend is Backend.SWIFT else set())
    assert not [one for one in features_of(environment) if one.missing_packages]


def test_every_family_with_pictures_is_one_that_was_tried() -> None:
    table = {(one.title, one.model_type, one.swift_type) for one in FAMILIES if one.reads_pictures}

    assert table == {(one.title, one.name, one.swift[0] if one.swift else "") for one in TRIED}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with packages that nobody could import."""
    files = {
        "torch/__init__.py": b"raise SystemExit('imported')",
        "torch/lib/libtorch.so": b"",
        "torch-2.13.0+cpu.dist-info/METADATA": b"Name: torch\nVersion: 2.13.0+cpu\n",
        "torchvision/__init__.py": b"raise SystemExit('imported')",
        "torchvision/_C.so": b"\x7fELF\0libtorch.so\0libc10_cuda.so\0libtorch_cuda.so\0libm.so\0",
        "torchvision-0.28.0.dist-info/METADATA": b"Name: torchvision\nVersion: 0.28.0\n"
        b"Requires-Dist: torch==2.13.0\n",
        "transformers/__init__.py": b"raise SystemExit('imported')",
        "transformers/models/qwen3/__init__.py": b"",
        "transformers/models/__pycache__/one.pyc": b"",
        "swift/__init__.py": b"raise SystemExit('imported')",
        "swift/model/constant.py": b"class LLMModelType:\n    qwen3 = 'qwen3'\n    yi = 'yi'\n",
    }  # fmt: skip
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path


def reported(site: Path) -> dict[str, object]:
    argv = [sys.executable, "-S", environment_report.__file__, "torch", "torchvision", "absent"]
    done = subprocess.run(
        argv, env={"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_an_environment_is_read_without_importing_a_library(site: Path) -> None:
    assert reported(site) == {
        "versions": {"torch": "2.13.0+cpu", "torchvision": "0.28.0"},
        "model_types": ["qwen3"],
        "swift_types": ["qwen3", "yi"],
        "torchvision": "was built for another build of torch"
        " (without libc10_cuda.so, libtorch_cuda.so)",
    }


def test_a_torchvision_for_another_release_of_torch_is_named(site: Path) -> None:
    for name in ("libc10_cuda.so", "libtorch_cuda.so"):
        (site / "torch/lib" / name).touch()

    matched = reported(site)["torchvision"]
    metadata = site / "torch-2.13.0+cpu.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("2.13.0", "2.12.1"))

    assert matched == ""
    assert reported(site)["torchvision"] == "0.28.0 was built for torch 2.13.0, not 2.12.1+cpu"
