"""Row 3: an assignment is delivered, and the answer to it is lost."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
from tunewright.v1 import registry_service_pb2, trainer_service_pb2, trainer_service_pb2_grpc

from tests.faults.harness import Installation, processes_of
from tests.faults.nothing_lost import check_nothing_lost, moves, steps


def test_03_second_delivery_returns_the_same_run(bare: Installation) -> None:
    go = bare.root / "go"
    bare.add_trainers("a", linked=True)
    first = bare.submit(["complete"], output_dir="first")  # opens the scheduler's connection to it
    check_nothing_lost(bare, first)
    link = bare.links["a"]
    link.to_trainer.cut("to_client")  # it hears, and its answers are lost
    link.to_scheduler.cut()  # nor can it say by a report what it has begun

    job = bare.submit(["entries", 1], ["wait_for", str(go)], ["complete"])
    bare.await_steps("a", job, 1)
    bare.await_log(bare.scheduler, "delivery left to the heartbeat")
    assert job.refresh().state == "STARTING"
    before = processes_of(bare.workspace("a"))
    answers = _deliver_again(bare, job.name, times=3)
    link.heal()
    bare.await_state(job, "RUNNING")
    after = processes_of(bare.workspace("a"))
    go.touch()

    assert {(one.job, one.attempt, one.phase) for one in answers} == {
        (job.name, 1, registry_service_pb2.RUN_PHASE_RUNNING)
    }
    assert after == before
    entries = check_nothing_lost(bare, job)
    assert steps(entries) == [1]
    assert moves(entries).count("STARTING") == 1


def _deliver_again(
    installation: Installation, job: str, times: int
) -> list[registry_service_pb2.RunStatus]:
    """What the scheduler would say again, said to the trainer itself, all at once."""
    uuid, generation, incarnation = _record(installation, job)
    request = trainer_service_pb2.StartRunRequest(
        database_uuid=uuid,
        generation=generation,
        incarnation=incarnation,
        assignment=registry_service_pb2.Assignment(
            job=job, attempt=1, spec=installation.client.jobs.get(job).spec
        ),
    )
    with grpc.insecure_channel(installation.trainers["a"].address) as channel:
        stub = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        with ThreadPoolExecutor() as pool:
            calls = [pool.submit(stub.StartRun, request, timeout=10) for _ in range(times)]
            return [call.result() for call in calls]


def _record(installation: Installation, job: str) -> Any:
    """Database, generation and incarnation, as the scheduler has them."""
    query = (
        "SELECT database_uuid, generation, jobs.incarnation FROM installation, jobs"
        " WHERE jobs.job_id = ?"
    )
    file = f"file:{installation.root / 'scheduler.db'}?mode=ro"
    with closing(sqlite3.connect(file, uri=True)) as database:
        return database.execute(query, [job.removeprefix("jobs/")]).fetchone()
