"""Where a local installation keeps what it has: one folder, and the command line of each service.

Pure but for making folders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.cli.exits import CommandError

SERVICES = ("scheduler", "monitor", "trainer")


def swift_python_nearby() -> Path | None:
    """The interpreter that `make setup-swift` leaves beside the environment this runs in."""
    python = Path(sys.prefix).parent / ".venv-swift" / "bin" / "python"
    return python if python.exists() else None


@dataclass(frozen=True)
class StateFolder:
    """The folder under `--state`. Absolute, since services are told of it."""

    path: Path

    def make(self) -> None:
        """Makes the folders that services and this command write to.

        Raises CommandError where that cannot be.
        """
        try:
            for name in ("workspace", "artifacts", "outputs", "logs", "run"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot keep the state here: {error.strerror or error}"
            raise CommandError(f"--state {self.path}: {problem}") from None

    @property
    def outputs(self) -> Path:
        """The output root: results are published here."""
        return self.path / "outputs"

    @property
    def lock(self) -> Path:
        """Held by the one command that runs services here."""
        return self.path / "lock"

    def log(self, service: str) -> Path:
        """Everything that a service prints."""
        return self.path / "logs" / f"{service}.log"

    def ready(self, service: str) -> Path:
        """Where a service says its address."""
        return self.path / "run" / f"{service}.json"

    def database(self, service: str) -> str:
        """The URL of a service's SQLite file."""
        return f"sqlite:///{self.path / service}.db"


@dataclass(frozen=True)
class LocalOptions:
    """What the services are told. Listen addresses are host:port; port 0 takes a free one."""

    scheduler_listen: str = "127.0.0.1:7400"
    monitor_listen: str = "127.0.0.1:7401"
    trainer_listen: str = "127.0.0.1:7402"
    trainer_name: str = "local"
    model_roots: Sequence[Path] = ()
    data_roots: Sequence[Path] = ()
    cpu_slots: int = 1
    swift_python: Path | None = None
    allow_hub: bool = False

    def listen(self, service: str) -> str:
        """Where a service is to listen."""
        return {
            "scheduler": self.scheduler_listen,
            "monitor": self.monitor_listen,
            "trainer": self.trainer_listen,
        }[service]


def service_arguments(
    service: str, state: StateFolder, options: LocalOptions, scheduler_address: str
) -> list[str]:
    """The arguments of a service, but for `--listen` and `--ready-file`."""
    if service == "scheduler":
        return ["--database-url", state.database(service)]
    known = ["--scheduler", scheduler_address]
    if service == "monitor":
        return ["--database-url", state.database(service), *known]
    folders = {name: str(state.path / name) for name in ("workspace", "artifacts", "outputs")}
    arguments = [*known, "--name", options.trainer_name, "--cpu-slots", str(options.cpu_slots)]
    for name, folder in folders.items():
        arguments += [f"--{name}", folder]
    for flag, roots in (("model", options.model_roots), ("data", options.data_roots)):
        for root in roots:
            arguments += [f"--{flag}-roots", str(root)]
    if options.swift_python is not None:
        arguments += ["--swift-python", str(options.swift_python)]
    if options.allow_hub:
        arguments.append("--allow-hub")
    return arguments
