"""What the trainer can be told, and what it refuses."""

from __future__ import annotations

import random
import sys
from itertools import islice
from pathlib import Path

import pytest
from tunewright.wire.names import TRAINER_ID_PATTERN

from svckit.config import load_config
from trainer_svc.config import TrainerConfig, name_of_host
from trainer_svc.supervisor.system_info import (
    library_versions,
    missing_backends,
    torch_cuda_version,
)
from trainer_svc.upstream.backoff import delays


def test_defaults_are_a_loopback_service_under_the_hosts_name() -> None:
    config = load_config(TrainerConfig, [])

    assert config.listen == "127.0.0.1:7402"
    assert config.stop_grace_seconds == 30.0
    assert TRAINER_ID_PATTERN.fullmatch(config.name)
    assert config.name == name_of_host()


def test_roots_are_repeatable_and_made_absolute(tmp_path: Path) -> None:
    flags = ["--workspace", str(tmp_path / "w")]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        flags += ["--data-roots", str(tmp_path / name)]

    settings = load_config(TrainerConfig, flags).settings()

    assert settings.data_roots == [tmp_path / "one", tmp_path / "two"]
    assert settings.artifacts == tmp_path / "w/artifacts"
    assert settings.outputs.is_dir()


@pytest.mark.parametrize(
    "flags",
    [
        ["--name", "Not Valid"],
        ["--scheduler", "nowhere"],
        ["--listen", "0.0.0.0:1"],
        ["--cpu-slots", "-1"],
        ["--stop-grace-seconds", "soon"],
        ["--unknown", "1"],
        ["--model-roots", "/nowhere"],
        ["--data-roots", "/", "--data-roots", "/etc/hostname"],
    ],
)
def test_a_broken_configuration_is_one_line_and_exit_code_2(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load_config(TrainerConfig, flags)

    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_delays_grow_to_their_bound_with_jitter() -> None:
    found = list(islice(delays(1.0, 8.0, random.Random(1)), 20))

    assert all(0.5 <= one <= 8.0 for one in found)
    assert found[-1] >= 4.0
    assert len(set(found)) == 20


def test_versions_are_read_without_importing_anything() -> None:
    before = set(sys.modules)

    versions = library_versions()
    torch_cuda_version()
    missing_backends()

    assert "not-a-distribution" not in versions
    assert not {"torch", "transformers"} & (set(sys.modules) - before)
