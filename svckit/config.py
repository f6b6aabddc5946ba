"""Configuration that every service has, and how it is read: environment, then flags.

Refuses, with one line and exit code 2, what is broken, and an address other
than loopback without TLS and tokens.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict, SettingsError

from svckit.log import LogFormat

EXIT_BAD_CONFIGURATION = 2

ConfigT = TypeVar("ConfigT", bound="ServiceConfig")


class ServiceConfig(BaseSettings):
    """What every service can be told.

    Subclasses set `model_config = service_settings("SCHEDULER")`, so that
    `TUNEWRIGHT_SCHEDULER_LISTEN` and `--listen` set `listen`.
    """

    listen: str = Field(description="host:port to serve on; port 0 takes a free one")
    insecure: bool = Field(default=False, description="serve other hosts without TLS and tokens")
    tls_certificate_file: Path | None = Field(default=None, description="PEM, served to clients")
    tls_key_file: Path | None = Field(default=None, description="PEM, key of the certificate")
    token_file: Path | None = Field(
        default=None,
        description="callers' tokens, one a line, as name:token",
    )
    tls_ca_file: Path | None = Field(
        default=None, description="PEM, to check the other services by"
    )
    peer_token_file: Path | None = Field(
        default=None, description="token shown to the other services"
    )
    ready_file: Path | None = Field(default=None, description="written once it serves")
    log_format: LogFormat = Field(default="text", description="text or json")
    drain_seconds: float = Field(default=10.0, ge=0, description="time for open calls at the end")

    @field_validator("listen")
    @classmethod
    def _listen_is_host_and_port(cls, value: str) -> str:
        split_address(value)
        return value

    @model_validator(mode="after")
    def _no_open_door(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file go together")
        host, _ = split_address(self.listen)
        secured = self.tls_certificate_file is not None and self.token_file is not None
        if not (is_loopback(host) or secured or self.insecure):
            raise ValueError(
                f"listen: {self.listen} is not a loopback address; give --tls-certificate-file, "
                "--tls-key-file and --token-file, or say --insecure"
            )
        return self


def service_settings(service: str) -> SettingsConfigDict:
    """Settings of one service: prefix `TUNEWRIGHT_<SERVICE>_`, flags in kebab case."""
    return SettingsConfigDict(
        env_prefix=f"TUNEWRIGHT_{service}_",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_prog_name=f"tunewright-{service.lower()}",
        extra="forbid",
    )


def load_config(kind: type[ConfigT], argv: Sequence[str]) -> ConfigT:
    """Reads the configuration; on a broken one prints a line to stderr and exits with 2."""
    try:
        with _argparse_in_one_line():
            source: CliSettingsSource[ConfigT] = CliSettingsSource(kind, cli_parse_args=list(argv))
        return kind(_cli_settings_source=source)  # type: ignore[call-arg] # every field has a default or a source
    except ValidationError as error:
        problems = "; ".join(_problem(detail["loc"], detail["msg"]) for detail in error.errors())
        fail_configuration(problems)
    except SettingsError as error:
        fail_configuration(str(error).replace("\n", " "))


def fail_configuration(problem: str) -> NoReturn:
    """Prints the one line and ends the process with exit code 2."""
    print(f"configuration error: {problem}", file=sys.stderr)
    raise SystemExit(EXIT_BAD_CONFIGURATION)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port"; ValueError if it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"expected host:port, got {address!r}")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """True for localhost, 127.0.0.0/8 and ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def _argparse_in_one_line() -> Iterator[None]:
    """Argparse prints its usage before the error; one line is enough."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        if end.code == 0:  # --help
            raise
        fail_configuration(said.getvalue().strip().rpartition(" error: ")[2])


def _problem(location: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    where = ".".join(str(part) for part in location)
    return f"{where}: {text}" if where else text
