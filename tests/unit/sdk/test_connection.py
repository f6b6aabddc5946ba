"""Where a client connects to, and how it shows itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from tunewright.connection import resolve_connection
from tunewright.errors import ConfigurationError


def test_the_address_given_goes_before_the_environment_and_that_before_the_default() -> None:
    environment = {"TUNEWRIGHT_ADDRESS": "env:2"}

    assert resolve_connection("given:1", None, None, environment).address == "given:1"
    assert resolve_connection(None, None, None, environment).address == "env:2"
    assert resolve_connection(None, None, None, {}).address == "127.0.0.1:7400"


@pytest.mark.parametrize("address", ["host", "host:", ":7400", "host:seven", "host:0", "h:70000"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="expected an address like"):
        resolve_connection(address, None, None, {})


def test_the_token_file_is_read_and_may_name_its_caller(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("alice:s3cr3t\n")

    connection = resolve_connection(
        None, None, None, {"TUNEWRIGHT_TOKEN_FILE": str(file), "TUNEWRIGHT_TOKEN": "other"}
    )

    assert connection.metadata == (("authorization", "Bearer s3cr3t"),)


def test_a_token_does_not_show_in_the_representation() -> None:
    assert "s3cr3t" not in repr(resolve_connection(None, "s3cr3t", None, {}))


@pytest.mark.parametrize("variable", ["TUNEWRIGHT_TOKEN_FILE", "TUNEWRIGHT_CA_FILE"])
def test_a_file_that_cannot_be_read_is_named(variable: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    with pytest.raises(ConfigurationError, match="missing: No such file"):
        resolve_connection(None, None, None, {variable: missing})


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("\n")

    with pytest.raises(ConfigurationError, match="is empty"):
        resolve_connection(None, None, None, {"TUNEWRIGHT_TOKEN_FILE": str(file)})
