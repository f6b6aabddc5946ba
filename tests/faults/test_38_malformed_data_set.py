"""Row 38: a data set that is malformed somewhere in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tunewright.jobs import Job
from tunewright.v1 import job_pb2

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost, events, steps
from tests.faults.real_child import add_real_trainer, submit_real
from tests.support.assets import Assets

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

GOOD = json.dumps(
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
).encode()
# What is in the third line.
BROKEN = {
    "torn": GOOD[:30],
    "not-text": GOOD.replace(b"hi", b"\xff\xfe"),
    "not-a-dialogue": b'{"messages": [{"role": "user", "content": 7}]}',
}


def test_38_fails_with_file_and_line_before_the_model_is_loaded(
    bare: Installation, assets: Assets
) -> None:
    add_real_trainer(bare, assets)

    jobs = {case: submit_broken(bare, assets, case, line) for case, line in BROKEN.items()}

    for job in jobs.values():
        job.wait(timeout=150)
    for case, job in jobs.items():
        entries = check_nothing_lost(bare, job, "FAILED")
        failure = job.failure
        assert failure is not None
        assert failure.cause == job_pb2.FAILURE_CAUSE_DATASET_INVALID, failure
        assert f"{case}.jsonl:3" in failure.message
        assert failure.hint
        assert job.attempt == 1, "never retried"
        assert "MODEL_LOADING" not in events(entries)
        assert steps(entries) == []


def submit_broken(installation: Installation, assets: Assets, case: str, line: bytes) -> Job:
    path: Path = installation.root / f"{case}.jsonl"
    path.write_bytes(b"\n".join([GOOD, GOOD, line, GOOD, b""]))
    return submit_real(installation, assets, path, case, hyperparameters={"max_steps": 2})
