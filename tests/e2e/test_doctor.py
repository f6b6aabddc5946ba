"""`tunewright doctor` against the real services, and what its own little job leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest
from tunewright import Client

from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.stack import Stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]


def doctor(stack: Stack, *flags: str) -> tuple[int, Sequence[dict[str, str]], str]:
    """Exit code, findings, and what went to stderr."""
    argv = [sys.executable, "-m", "tunewright", "doctor", "--json", "--address", stack.address]
    done = subprocess.run([*argv, *flags], capture_output=True, text=True, timeout=200, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def errors(findings: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [one for one in findings if one["level"] == "error"]


def test_a_whole_installation_is_well_and_trains(
    stack: Stack, assets: Assets, client: Client
) -> None:
    before = set(assets.folder.iterdir()) | set(stack.root.iterdir())

    code, findings, told = doctor(stack, "--train")

    assert (code, errors(findings), told) == (0, [], "")
    answering = [one["subject"] for one in findings if "answers at" in one["finding"]]
    assert answering == ["scheduler", "monitor", "trainers/a"]
    assert [one for one in findings if one["subject"] in ("versions", "clocks")] == [
        one for one in findings if one["level"] == "ok" and one["subject"] in ("versions", "clocks")
    ]
    [trained] = [one["finding"] for one in findings if one["subject"] == "training"]
    assert trained.startswith("5 steps on trainers/a and a published result in ")
    assert "has every entry of it, 1 to " in findings[-1]["finding"]

    eventually_sync(lambda: not list(client.jobs.list(show_deleted=True)), 30, "the job is gone")
    assert set(assets.folder.iterdir()) | set(stack.root.iterdir()) == before
    assert not list(stack.outputs.glob("doctor-*"))
    assert not list(stack.artifacts.glob("jobs/doctor-*"))


def test_a_job_that_takes_too_long_is_ended_and_removed(stack: Stack, client: Client) -> None:
    code, findings, _ = doctor(stack, "--train", "--train-seconds", "1")

    assert code == 1
    [finding] = errors(findings)
    assert finding["subject"] == "training"
    assert "after 1 s" in finding["finding"]
    eventually_sync(lambda: not list(client.jobs.list(show_deleted=True)), 30, "the job is gone")


def test_services_that_are_down_are_findings_and_never_a_traceback(stack: Stack) -> None:
    stack.monitor.kill()
    stack.trainers["a"].kill()
    try:
        code, findings, told = doctor(stack)
    finally:
        stack.monitor.start()
        stack.trainers["a"].start()

    assert (code, told) == (1, "")
    assert {one["subject"] for one in errors(findings)} == {"monitor"}
    [trainer] = [one for one in findings if "cannot reach the trainer" in one["finding"]]
    # The scheduler has heard of it a moment ago, so it is not known to be down.
    assert (trainer["subject"], trainer["level"]) == ("trainers/a", "warning")
