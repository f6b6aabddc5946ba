"""How a service reads its configuration, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from svckit.config import ServiceConfig, is_loopback, load_config, service_settings, split_address


class ExampleConfig(ServiceConfig):
    model_config = service_settings("EXAMPLE")
    listen: str = "127.0.0.1:0"


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        load_config(ExampleConfig, argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_flags_are_read() -> None:
    config = load_config(ExampleConfig, ["--listen", "[::1]:7", "--drain-seconds", "1.5"])

    assert (config.listen, config.drain_seconds) == ("[::1]:7", 1.5)


def test_flags_go_before_the_environment() -> None:
    code = (
        "import sys; from tests.unit.svckit.test_config import *; "
        "c = load_config(ExampleConfig, sys.argv[1:]); print(c.listen, c.drain_seconds)"
    )
    environment = {
        **os.environ,
        "TUNEWRIGHT_EXAMPLE_LISTEN": "127.0.0.1:1",
        "TUNEWRIGHT_EXAMPLE_DRAIN_SECONDS": "3",
    }

    done = subprocess.run(
        [sys.executable, "-c", code, "--listen", "127.0.0.1:2"],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert done.stdout.split() == ["127.0.0.1:2", "3.0"]


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--listen", "nowhere"], "host:port"),
        (["--drain-seconds", "soon"], "drain_seconds"),
        (["--drain-seconds", "-1"], "drain_seconds"),
        (["--bogus", "1"], "--bogus"),
        (["--tls-key-file", "key.pem"], "go together"),
        (["--listen", "0.0.0.0:0"], "--insecure"),
        (["--listen", "[::]:0"], "--insecure"),
        (["--listen", "example.org:0"], "--insecure"),
    ],
)
def test_a_broken_configuration_is_one_line_and_exit_code_2(
    argv: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(argv, capsys)

    assert said.startswith("configuration error: ")
    assert said.count("\n") == 1
    assert word in said


def test_another_address_is_allowed_with_tls_and_tokens(tmp_path: Path) -> None:
    files = ["--tls-certificate-file", "c", "--tls-key-file", "k", "--token-file", "t"]

    assert load_config(ExampleConfig, ["--listen", "0.0.0.0:0", *files]).listen == "0.0.0.0:0"
    assert load_config(ExampleConfig, ["--listen", "0.0.0.0:0", "--insecure"]).insecure


def test_tokens_alone_do_not_open_another_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--insecure" in refused(["--listen", "0.0.0.0:0", "--token-file", "t"], capsys)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "localhost.example.org"])
def test_hosts_that_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("address", ["", ":1", "host", "host:", "host:x", "host:65536"])
def test_what_is_not_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)
