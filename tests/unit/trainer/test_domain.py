"""Commands, slots, phases, and whose word counts."""

from __future__ import annotations

import sys

import pytest
from tunewright.v1 import job_pb2, registry_service_pb2

from svckit.spec import Backend, JobSpec
from trainer_svc.domain.authority import Authority
from trainer_svc.domain.command import (
    DEFAULT_COMMANDS,
    build_command,
    cpu_threads_per_job,
    run_marker,
)
from trainer_svc.domain.refusals import TrainerFull
from trainer_svc.domain.runs import (
    Cause,
    FolderFacts,
    RunKey,
    RunOutcome,
    RunPhase,
    StopMode,
    phase_of,
)
from trainer_svc.domain.slots import Capacity, Holding, check_fits

SPEC = JobSpec.from_mapping(
    {
        "model": {"name": "some/model"},
        "train_data": [{"source": "some/data"}],
        "output_dir": "out",
        "resources": {"accelerator": "cpu"},
    }
)
OTHER = RunKey("other", 1)


def test_a_qlora_child_is_run_with_its_folder_and_its_gpus() -> None:
    marker = run_marker("uuid", "job-a", 2)

    command = build_command(DEFAULT_COMMANDS, SPEC, "/runs/a", ["2", "3"], marker, 4)

    assert command is not None
    assert command.argv == (sys.executable, "-m", "trainer_svc.child.qlora", "/runs/a")
    assert command.environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert command.environment["TUNEWRIGHT_RUN"] == "uuid/job-a/2"


def test_a_cpu_child_sees_no_gpu() -> None:
    command = build_command(DEFAULT_COMMANDS, SPEC, "/runs/a", [], "m", 4)

    assert command is not None
    assert command.environment["CUDA_VISIBLE_DEVICES"] == ""


def test_cpu_children_share_the_cores_and_do_not_spin() -> None:
    cpu = build_command(DEFAULT_COMMANDS, SPEC, "/runs/a", [], "m", 4)
    gpu = build_command(DEFAULT_COMMANDS, SPEC, "/runs/a", ["0"], "m", 4)

    assert cpu is not None
    assert gpu is not None
    assert cpu.environment["OMP_NUM_THREADS"] == "4"
    assert cpu.environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_NUM_THREADS" not in gpu.environment
    assert [cpu_threads_per_job(8, slots) for slots in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_a_backend_without_a_row_has_no_command() -> None:
    table = {Backend.QLORA: DEFAULT_COMMANDS[Backend.QLORA]}
    spec = SPEC.model_copy(update={"backend": Backend.SWIFT})

    known = build_command(DEFAULT_COMMANDS, spec, "/runs/a", [], "m", 4)
    unknown = build_command(table, spec, "/runs/a", [], "m", 4)

    assert known is not None
    assert list(known.argv[1:]) == ["-m", "trainer_svc.child.swift", "/runs/a"]
    assert unknown is None


@pytest.mark.parametrize(
    ("gpu_ids", "held", "complaint"),
    [
        ([], [], None),
        ([], [Holding(OTHER, [])], "CPU slots"),
        ([], [Holding(OTHER, ["0"])], None),
        (["0"], [], None),
        (["0"], [Holding(OTHER, ["0"])], "held by jobs/other"),
        (["1"], [], "not ours: 77"),
        (["9"], [], "no GPU 9"),
        (["0", "1"], [], "not ours"),
    ],
)
def test_a_run_fits_only_where_nobody_else_is(
    gpu_ids: list[str], held: list[Holding], complaint: str | None
) -> None:
    capacity = Capacity(cpu_slots=1, foreign_pids={"0": (), "1": (77,)})

    if complaint is None:
        check_fits(gpu_ids, held, capacity)
    else:
        with pytest.raises(TrainerFull, match=complaint):
            check_fits(gpu_ids, held, capacity)


@pytest.mark.parametrize(
    ("facts", "phase"),
    [
        (FolderFacts(), RunPhase.PREPARING),
        (FolderFacts(child_started=True), RunPhase.RUNNING),
        (FolderFacts(child_started=True, ended=True), RunPhase.ENDED),
        (FolderFacts(ended=True), RunPhase.ENDED),
        (FolderFacts(child_started=True, ended=True, published=True), RunPhase.PUBLISHED),
    ],
)
def test_the_folder_says_the_phase(facts: FolderFacts, phase: RunPhase) -> None:
    assert phase_of(facts) is phase


def test_an_older_generation_of_the_same_database_does_not_count() -> None:
    bound = Authority("db", 5)

    assert not bound.yields_to(Authority("db", 4))
    assert bound.yields_to(Authority("db", 5))
    assert bound.yields_to(Authority("db", 6))
    assert bound.yields_to(Authority("another", 1))


def test_our_words_are_the_words_on_the_wire() -> None:
    for cause in Cause:
        assert job_pb2.FailureCause.Value(cause)
    for phase in RunPhase:
        assert registry_service_pb2.RunPhase.Value(phase)
    for outcome in RunOutcome:
        assert registry_service_pb2.RunOutcome.Value(outcome)
    for mode in StopMode:
        assert registry_service_pb2.StopMode.Value(f"STOP_MODE_{mode}")


@pytest.mark.parametrize(("job", "attempt"), [("jobs/../x", 1), ("job", 1), ("jobs/a", 0)])
def test_a_key_is_safe_as_a_path(job: str, attempt: int) -> None:
    with pytest.raises(ValueError, match=r"expected|attempt"):
        RunKey.of(job, attempt)
