"""What README.md and docs/grpc-clients.md show is run in order, as a newcomer would paste it.

After a real demo, in its folder, on the services that the README's own command
starts; only their ports are other ones.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tunewright import Client

from tests.support.grpcurl import grpcurl

pytestmark = [pytest.mark.training, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parent.parent
FREE_PORTS = [f"--{name}-listen=127.0.0.1:0" for name in ("scheduler", "monitor", "trainer")]


def blocks(document: str, language: str) -> list[str]:
    """Code blocks of a language, in order."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


README, CLIENTS = blocks("README.md", "sh"), blocks("docs/grpc-clients.md", "sh")


@dataclass(frozen=True)
class Installation:
    """A folder with a demo in it, and the services that `tunewright up` runs there."""

    folder: Path
    scheduler: str
    monitor: str

    def paste(self, block: str) -> str:
        """Runs a block in the shell of a newcomer; what it printed."""
        return self.run(["bash", "-euo", "pipefail", "-c", self._on_its_ports(block)])

    def run(self, argv: list[str]) -> str:
        """Runs a command there; what it printed."""
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env={**os.environ, "TUNEWRIGHT_ADDRESS": self.scheduler, "PATH": with_tools()},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def python(self, block: str) -> str:
        """Runs a Python block."""
        return self.run([sys.executable, "-c", self._on_its_ports(block)])

    def _on_its_ports(self, text: str) -> str:
        return text.replace("127.0.0.1:7400", self.scheduler).replace(
            "127.0.0.1:7401", self.monitor
        )


def with_tools() -> str:
    return f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One who has run `make demo` and started the services."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / ".venv").symlink_to(VENV)
    demo, up = README[:2]
    assert demo == "make demo\n"
    assert "tunewright demo\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    demo_run = [sys.executable, "-m", "tunewright", "demo", "--json"]
    subprocess.run(demo_run, cwd=folder, check=True, capture_output=True, timeout=300)
    [line] = [line.partition("#")[0] for line in up.splitlines() if line.startswith("tunewright")]
    services = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(line), *FREE_PORTS, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert services.stdout is not None
        addresses = json.loads(services.stdout.readline())
        yield Installation(folder, addresses["scheduler"], addresses["monitor"])
    finally:
        services.send_signal(signal.SIGINT)
        services.communicate(timeout=60)


def test_the_command_line(newcomer: Installation) -> None:
    printed = newcomer.paste(README[2])

    adapter = newcomer.folder / "demo-state/outputs/first/adapter_model.safetensors"
    assert "SUCCEEDED" in printed
    assert "above 0, at most 10" in printed  # the hyperparameter that is shown
    assert "✗" not in printed  # of the doctor
    assert adapter.is_file()
    with Client(newcomer.scheduler) as client:
        [job] = client.jobs.list(filter='output_dir = "first"')
    shown = newcomer.paste(f"tunewright jobs get {job.id}")
    assert "receipt of train data" in shown
    assert "400 of 400 kept" in shown
    logs = newcomer.paste(f"tunewright jobs logs {job.id}")
    assert "'loss'" in logs.splitlines()[0]


def test_pictures(newcomer: Installation) -> None:
    newcomer.paste(README[3])

    assert (newcomer.folder / "demo-state/outputs/seen/adapter_model.safetensors").is_file()


def test_recipes(newcomer: Installation) -> None:
    printed = newcomer.paste(README[4])

    for name in ("llm-swift", "vlm-swift", "dialogue-qlora", "tiny-cpu-qlora", "tiny-cpu-swift"):
        assert name in printed
    assert "--model Qwen/Qwen2.5-7B-Instruct" in printed
    with Client(newcomer.scheduler) as client:
        [made] = client.jobs.list(filter='output_dir = "chat"')
    assert made.recipe == "recipes/tiny-cpu-qlora@1"
    assert made.succeeded


def test_buf_curl_lists_creates_and_streams(newcomer: Installation) -> None:
    printed = newcomer.paste(README[5])

    for service in (
        "JobService",
        "DataService",
        "FleetService",
        "TrainerRegistryService",
        "FeedService",
    ):
        assert f"tunewright.v1.{service}" in printed
    assert "grpc.health.v1.Health" in printed
    assert "grpc.reflection.v1.ServerReflection" in printed
    assert '"JOB_STATE_SUCCEEDED"' in printed
    assert re.search(r'"step": ?"20"', printed)


def test_the_python_example(newcomer: Installation) -> None:
    [block] = blocks("README.md", "python")

    printed = newcomer.python(block).splitlines()

    assert all(re.fullmatch(r"\d+ [\d.]+", line) for line in printed[:-1])
    assert (Path(printed[-1]) / "adapter_model.safetensors").is_file()


def test_nothing_that_can_be_pasted_is_left_out() -> None:
    """A new block needs a test of its own above."""
    assert len(README) == 6
    assert blocks("README.md", "console") == []
    assert len(blocks("README.md", "python")) == 1
    assert len(CLIENTS) == 3


def test_grpcurl_and_buf_curl_as_the_page_on_clients_shows_them(newcomer: Installation) -> None:
    grpcurl()

    described, trained, measured = map(newcomer.paste, CLIENTS)

    assert "tunewright.v1.JobService.CreateJob is a method:" in described
    assert "JOB_STATE_RUNNING is an enum value:" in described
    assert '"state": "JOB_STATE_SUCCEEDED"' in described
    assert '"to": "JOB_STATE_SUCCEEDED"' in trained
    assert "tunewright.v1.MonitorService/Subscribe" in measured
    assert '"pointsTotal": "2"' in measured


def test_the_page_on_clients_shows_what_a_mistyped_job_answers(newcomer: Installation) -> None:
    [block] = blocks("docs/grpc-clients.md", "console")
    command, _, answer = block.removeprefix("$ ").partition("\n")
    grpcurl()

    said = newcomer.paste(f"{command} 2>&1 || true")

    assert said.startswith(answer.rstrip())
    assert "JOB_NOT_FOUND" in said
