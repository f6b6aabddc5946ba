"""docker-compose.yml without containers: each service's very command, as a process.

Paths of the containers become folders below one folder, addresses of the
compose network become ports of 127.0.0.1. Nothing else is changed, so what is
tested is what would be run.
"""

from __future__ import annotations

import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.eventually import eventually_sync
from tests.support.stack import end_runs_below

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
_CHUNK_BYTES = 64 * 1024


def compose_file() -> dict[str, Any]:
    """The file, with every variable at its default."""
    text = _VARIABLE.sub(r"\2", FILE.read_text(encoding="utf-8"))
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@dataclass
class Containers:
    """What stands in for the containers of a compose file."""

    folder: Path
    services: Mapping[str, Mapping[str, Any]]
    addresses: dict[str, str] = field(default_factory=dict)
    """ "scheduler:7400" → "127.0.0.1:40123"."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def mapped(self, text: str) -> str:
        """A value of the file as it is on this machine."""
        for address, here in self.addresses.items():
            port = address.rpartition(":")[2]
            for host in (address, f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
                text = re.sub(rf"(?<![\w.]){re.escape(host)}\b", here, text)
        paths = "|".join(sorted((re.escape(path) for path in self.paths()), reverse=True))
        return re.sub(rf"""(?<![\w/.])({paths})(?=/|["\]]|$)""", rf"{self.folder}\1", text)

    def path(self, inside: str) -> Path:
        """Where a folder or file of the containers is."""
        return self.folder / inside.lstrip("/")

    def paths(self) -> set[str]:
        """Every folder that is mounted into a container."""
        found = {"/run/secrets"}
        for service in self.services.values():
            mounts = [volume.split(":")[1] for volume in service.get("volumes", ())]
            found |= {*mounts, *(mount.split(":")[0] for mount in service.get("tmpfs", ()))}
        return found - {"/tmp"}

    def environment(self, name: str) -> dict[str, str]:
        """What a service of the file is told."""
        told = self.services[name]["environment"]
        # Without a value: the host's own, which these are not given.
        return {key: self.mapped(str(value)) for key, value in told.items() if value is not None}

    def start(self, name: str) -> None:
        """Starts a service, as its container would be."""
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [self.mapped(part) for part in self.services[name]["command"]],
                cwd=self.path("/home"),
                env=self._whole_environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, name: str, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """A command inside a container: docker compose exec NAME ARGV."""
        return subprocess.run(
            [self.mapped(part) for part in argv],
            cwd=self.path("/home"),
            env=self._whole_environment(name),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def await_healthy(self, name: str) -> None:
        """Until the file's own health check says so."""
        kind, *check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"

        def healthy() -> bool:
            assert self.processes[name].poll() is None, self.log(name).read_text()
            return self.run(name, check).returncode == 0

        eventually_sync(healthy, 60, f"{name} is healthy")

    def log(self, name: str) -> Path:
        """Everything that it printed."""
        return self.folder / f"{name}.log"

    def stop(self) -> None:
        """Ends everything, what was started last first."""
        while self.processes:
            _, process = self.processes.popitem()
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        end_runs_below(self.path("/workspace"))

    def _whole_environment(self, name: str) -> dict[str, str]:
        plain = {key: value for key, value in os.environ.items() if "TUNEWRIGHT" not in key}
        # The images have their environment first in PATH as well.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**plain, "PATH": path, **self.environment(name)}


@contextmanager
def containers(folder: Path, compose: Mapping[str, Any], database: str) -> Iterator[Containers]:
    """Folders, secrets and addresses, ready for `start`; everything is ended at the end.

    `database` is the host:port of a PostgreSQL server.
    """
    made = Containers(folder, compose["services"])
    made.addresses["postgres:5432"] = database
    for name, service in compose["services"].items():
        for value in service.get("environment", {}).values():
            for port in re.findall(r"^0\.0\.0\.0:(\d+)$", str(value)):
                made.addresses[f"{name}:{port}"] = f"127.0.0.1:{_free_port()}"
    for path in (*made.paths(), "/home"):
        made.path(path).mkdir(parents=True, exist_ok=True)
    try:
        yield made
    finally:
        made.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tcp_of(unix_socket: Path) -> Iterator[str]:
    """host:port of a relay to a server that listens on a Unix socket only."""

    class Pass(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as far:
                far.connect(str(unix_socket))
                back = threading.Thread(target=_pump, args=(far, self.request), daemon=True)
                back.start()
                _pump(self.request, far)
                back.join()

    class Relay(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Relay(("127.0.0.1", 0), Pass) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(_CHUNK_BYTES):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
