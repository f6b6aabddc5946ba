"""What README.md shows is run as it stands there, with addresses and paths put in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tunewright import Client

from tests.support.assets import Assets
from tests.support.stack import Stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str, word: str) -> list[str]:
    """Code blocks of a language that contain a word."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [block for block in found if word in block]


def filled_in(block: str, stack: Stack, assets: Assets) -> str:
    return (
        block.replace("127.0.0.1:7400", stack.scheduler.address)
        .replace("127.0.0.1:7401", stack.monitor.address)
        .replace("/models/qwen3-tiny", assets.model)
        .replace("/data/dialogues.jsonl", assets.train)
    )


def run(argv: list[str], address: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        argv,
        env={**os.environ, "PATH": path, "TUNEWRIGHT_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_buf_curl_lists_creates_and_streams(stack: Stack, assets: Assets, client: Client) -> None:
    (block,) = blocks("sh", "buf curl")

    printed = run(["bash", "-euc", filled_in(block, stack, assets)], stack.address)

    for service in (
        "JobService",
        "DataService",
        "FleetService",
        "TrainerRegistryService",
        "FeedService",
    ):
        assert f"tunewright.v1.{service}" in printed
    assert "grpc.health.v1.Health" in printed
    assert '"JOB_STATE_SUCCEEDED"' in printed
    assert re.search(r'"step": ?"20"', printed)
    assert client.jobs.get("from-curl").succeeded


def test_the_python_example(stack: Stack, assets: Assets, client: Client) -> None:
    (block,) = blocks("python", "Client(")
    quick = filled_in(block, stack, assets).replace(
        '"num_train_epochs": 1', '"max_steps": 5, "logging_steps": 1'
    )

    printed = run([sys.executable, "-c", quick], stack.address).splitlines()

    assert [line.split()[0] for line in printed[:-1]] == ["1", "2", "3", "4", "5"]
    assert (Path(printed[-1]) / "adapter_model.safetensors").is_file()


def test_the_command_line(stack: Stack, assets: Assets, client: Client) -> None:
    (block,) = blocks("sh", "jobs create")
    quick = filled_in(block, stack, assets).strip() + " --set max_steps=5 --json"

    printed = run(["bash", "-euc", quick], stack.address)

    lines = [json.loads(line) for line in printed.splitlines()]
    assert any("train_metrics" in json.dumps(line) for line in lines)
    assert (stack.outputs / "first" / "adapter_model.safetensors").is_file()


def test_the_commands_about_pictures_and_recipes(
    stack: Stack, assets: Assets, client: Client
) -> None:
    (pictures,) = blocks("console", "--model-kind vlm")
    (recipes,) = blocks("console", "recipes list")

    planned = run(["bash", "-euc", pictures.replace("--watch", "--validate-only")], stack.address)
    printed = run(["bash", "-euc", filled_in(recipes, stack, assets)], stack.address)

    assert "swift sft" in planned
    for name in ("llm-swift", "vlm-swift", "dialogue-qlora", "tiny-cpu-qlora", "tiny-cpu-swift"):
        assert name in printed
    assert "--model Qwen/Qwen2.5-7B-Instruct" in printed
    (made,) = client.jobs.list(filter='output_dir = "chat"')
    assert made.proto.recipe == "recipes/dialogue-qlora@1"
    made.cancel()
