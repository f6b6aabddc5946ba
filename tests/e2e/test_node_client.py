"""The contract from another language: the client in clients/node, generated and built from npm.

Needs Node 20 and npm, with a registry that it can reach. Where they are not,
it fails and says so; TUNEWRIGHT_SKIP_NODE=1 leaves it out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tunewright import Client

from tests.support.assets import Assets
from tests.support.stack import Stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
NODE_MAJOR_MIN = 20


def run(*argv: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def why_not() -> str:
    """What this machine lacks for it; empty if nothing."""
    lacking = [tool for tool in ("node", "npm") if shutil.which(tool) is None]
    if lacking:
        return f"{' and '.join(lacking)} cannot be found"
    version = run("node", "--version", cwd=ROOT).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MAJOR_MIN:
        return f"node {version} is too old: {NODE_MAJOR_MIN} or newer is needed"
    return ""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, installed from its lock file and built in a copy of its own."""
    if os.environ.get("TUNEWRIGHT_SKIP_NODE") == "1":
        pytest.skip("TUNEWRIGHT_SKIP_NODE=1: the Node client is not tested")
    lacking = why_not()
    assert not lacking, f"{lacking}; TUNEWRIGHT_SKIP_NODE=1 leaves this test out"
    folder = tmp_path_factory.mktemp("node")
    client = folder / "clients" / "node"
    left_out = shutil.ignore_patterns("node_modules", "dist", "gen")
    shutil.copytree(ROOT / "clients" / "node", client, ignore=left_out)
    shutil.copytree(ROOT / "protos", folder / "protos")
    for step in (["ci", "--no-audit", "--no-fund", "--ignore-scripts"], ["run", "build"]):
        done = run("npm", *step, cwd=client)
        told = f"npm {step[0]} failed:\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, f"{told}\nTUNEWRIGHT_SKIP_NODE=1 leaves this test out"
    return client


def test_a_generated_client_creates_a_job_and_sees_every_entry(
    built: Path, stack: Stack, assets: Assets, client: Client
) -> None:
    options = ["--model", assets.model, "--data", assets.train, "--max-steps", "5"]

    done = run(
        "node", "dist/train.js", *options, "--output-dir", "from-node",
        cwd=built, TUNEWRIGHT_ADDRESS=stack.address,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [int(entry["sequence"]) for entry in entries] == list(range(1, len(entries) + 1))
    assert [int(one["trainMetrics"]["step"]) for one in entries if "trainMetrics" in one] == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip
    assert entries[-1]["stateChange"]["to"] == "JOB_STATE_SUCCEEDED"
    [job] = client.jobs.list(filter='display_name = "from Node"')
    assert job.succeeded
    assert (stack.outputs / "from-node" / "adapter_model.safetensors").is_file()


def test_what_the_service_refuses_is_one_line_and_exit_code_1(built: Path, stack: Stack) -> None:
    done = run(
        "node", "dist/train.js", "--model", "m", "--data", "d", "--output-dir", "/abs/olute",
        cwd=built, TUNEWRIGHT_ADDRESS=stack.address,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: 3 INVALID_ARGUMENT: ")
    assert "output_dir" in done.stderr


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((ROOT / "clients" / "node" / "package-lock.json").read_text())

    packages = {name: told for name, told in lock["packages"].items() if name}

    assert len(packages) > 10
    assert not [name for name, told in packages.items() if "resolved" in told]
    assert all(told["integrity"].startswith("sha512-") for told in packages.values())
