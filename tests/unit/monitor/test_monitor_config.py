"""The monitor's configuration."""

from __future__ import annotations

import pytest

from monitor_svc.config import MonitorConfig
from svckit.config import load_config


def test_defaults_are_for_one_host() -> None:
    config = load_config(MonitorConfig, [])

    assert config.listen == "127.0.0.1:7401"
    assert config.scheduler == "127.0.0.1:7400"
    assert config.hub_settings(is_shared=False).poll_seconds == 0
    assert config.ingest_settings("x:1", "i").hold_seconds_max == 600
    assert config.ingest_settings("x:1", "i").reader.startswith("monitors/")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--scheduler", "nowhere"], "scheduler"),
        (["--advertise-address", "nowhere"], "host:port"),
        (["--subscriber-buffer-max", "1"], "subscriber_buffer_max"),
        (["--lease-seconds", "0"], "lease_seconds"),
        (["--listen", "0.0.0.0:7401"], "loopback"),
    ],
)
def test_a_broken_one_is_one_line_and_exit_2(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        load_config(MonitorConfig, argv)

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.count("\n") == 1
    assert named in said
