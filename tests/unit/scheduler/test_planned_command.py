"""The command that validate_only shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scheduler_svc.domain.fleet import Capabilities, Host
from scheduler_svc.domain.planned_command import planned_argv
from svckit.spec import Backend, JobSpec
from tests.unit.scheduler.builders import host, spec


def with_swift(version: str) -> Host:
    """A trainer whose ms-swift is of that version."""
    one = host("a", cpu_slots=1)
    capabilities = Capabilities(
        (Backend.QLORA, Backend.SWIFT), 1, backend_versions={"BACKEND_SWIFT": version}
    )
    return replace(one, trainer=replace(one.trainer, capabilities=capabilities))


def swift_spec(**others: Any) -> JobSpec:
    return JobSpec.model_validate({**spec().model_dump(), "backend": "swift", **others})


def test_a_qlora_job_runs_no_command() -> None:
    argv = planned_argv(spec(), [with_swift("4.6.0")])

    assert argv == ()


def test_the_command_is_for_the_version_of_a_trainer_that_fits() -> None:
    three = planned_argv(swift_spec(), [with_swift("3.9.3"), with_swift("4.6.0")])
    four = planned_argv(swift_spec(), [host("old"), with_swift("4.6.0")])

    assert "--train_type" in three
    assert "--tuner_type" in four


def test_without_such_a_trainer_it_is_for_the_newest_version_known() -> None:
    argv = planned_argv(swift_spec(), [])

    assert argv[:4] == ("swift", "sft", "--model", "Qwen/Qwen3-0.6B")
    assert "--tuner_type" in argv
    assert argv[argv.index("--output_dir") + 1] == "<run>/swift"
