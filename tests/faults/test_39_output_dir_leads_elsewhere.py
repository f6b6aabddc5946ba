"""Row 39: an output_dir that leads out of the output root, as text or by a link."""

from __future__ import annotations

import pytest
from tunewright.errors import InvalidRequest
from tunewright.jobs import Job
from tunewright.v1 import job_pb2

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost

TEXTS = ["../out", "a/../../out", "/etc/out", "a\0b", "a" * 300, ".staging/out", "", "."]


def test_39_text_is_refused_at_once(bare: Installation) -> None:
    for text in TEXTS:
        with pytest.raises(InvalidRequest) as caught:
            bare.submit(["complete"], output_dir=text)

        fields = [one.field for one in caught.value.violations]
        assert fields == ["job.spec.output_dir"], (text, fields)
    assert list(bare.client.jobs.list()) == []


def test_39_a_link_there_fails_the_job_before_its_child_starts(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    installation.outputs.mkdir(exist_ok=True)
    (installation.outputs / "parent").symlink_to(outside)
    (installation.outputs / "last").symlink_to(outside / "nowhere")

    for output_dir in ("parent/out", "last"):
        job = installation.submit(["complete"], output_dir=output_dir)
        assert_output_invalid(installation, job, output_dir.partition("/")[0])
        assert installation.file("a", job, "process.json") == {}, "no child was started"
    assert list(outside.iterdir()) == []


def test_39_a_link_swapped_in_at_the_last_moment_is_not_followed(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    parent, go = installation.outputs / "parent", installation.root / "go"
    parent.mkdir(parents=True)
    job = installation.submit(
        ["entries", 3], ["wait_for", str(go)], ["complete"], output_dir="parent/out"
    )
    installation.await_child("a", job)

    parent.rmdir()
    parent.symlink_to(outside)
    go.touch()

    assert_output_invalid(installation, job, "parent")
    assert list(outside.iterdir()) == []


def assert_output_invalid(installation: Installation, job: Job, named: str) -> None:

    entries = check_nothing_lost(installation, job, "FAILED")
    assert job.failure is not None
    assert job.failure.cause == job_pb2.FAILURE_CAUSE_OUTPUT_INVALID
    assert named in job.failure.message
    assert entries[-1].state_change.failure.cause == job_pb2.FAILURE_CAUSE_OUTPUT_INVALID
