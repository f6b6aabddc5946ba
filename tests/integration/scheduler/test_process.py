"""The scheduler as a process: its one-line refusals, its health, its drain, its size."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from sqlalchemy import create_engine, make_url, text
from tunewright.v1 import job_service_pb2, job_service_pb2_grpc

from tests.integration.scheduler.harness import a_job, creation, running_scheduler, until
from tests.support.eventually import eventually_sync
from tests.support.stack import ServiceProcess

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def refused_start(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and stderr of a scheduler that must not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "scheduler_svc", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--listen", "0.0.0.0:0"], {}, "not a loopback address"),
        (["--listen", "nowhere"], {}, "host:port"),
        (["--lost-seconds", "soon"], {}, "lost_seconds"),
        (["--lost-seconds", "1"], {}, "suspect_seconds < lost_seconds"),
        (["--page-max", "1001"], {}, "page_max"),
        (["--no-such-flag", "1"], {}, "no-such-flag"),
        (["--database-url", "mysql://host/db"], {}, "neither sqlite"),
        ([], {"TUNEWRIGHT_SCHEDULER_QUEUE_MAX": "0"}, "queue_max"),
    ],
)
def test_a_broken_configuration_is_one_line_and_exit_2(arguments, environment, words):
    code, stderr = refused_start(arguments, environment)

    assert code == 2
    assert stderr.count("\n") == 1
    assert words in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--database-url", "postgresql://me:hunter2@host/db"],
        ["--database-url=postgresql://me:hunter2@host/db"],
        ["--database-url", "postgresql://host/db?password=hunter2"],
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(arguments):
    code, stderr = refused_start(arguments)

    assert code == 2
    assert stderr.count("\n") == 1
    assert "TUNEWRIGHT_SCHEDULER_DATABASE_URL" in stderr
    assert "hunter2" not in stderr


def test_a_database_that_stays_away_ends_the_start_with_one_line():
    code, stderr = refused_start(
        [
            "--listen",
            "127.0.0.1:0",
            "--database-wait-seconds",
            "0.1",
            "--database-url",
            "postgresql://127.0.0.1:9/none",
        ]
    )

    assert code == 1
    assert stderr == "tunewright-scheduler: the database cannot be reached\n"


async def test_reflection_lists_the_services(scheduler):
    def listed() -> set[str]:
        with grpc.insecure_channel(scheduler.service.address) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert await asyncio.to_thread(listed) >= {
        "tunewright.v1.JobService",
        "tunewright.v1.DataService",
        "tunewright.v1.RecipeService",
        "tunewright.v1.FleetService",
        "tunewright.v1.TrainerRegistryService",
        "tunewright.v1.FeedService",
        "grpc.health.v1.Health",
    }


async def test_health_follows_the_database_away_and_back(postgres_config):
    url = make_url(postgres_config.database_url)
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def allow(connections: bool) -> None:
        with admin.connect() as connection:
            name = url.database
            word = "true" if connections else "false"
            connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {word}'))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :n"),
                {"n": name},
            )

    async with running_scheduler(postgres_config) as scheduler:

        async def says(status: int, service: str = "") -> bool:
            request = health_pb2.HealthCheckRequest(service=service)
            return bool((await scheduler.health.Check(request)).status == status)

        await until(lambda: says(SERVING))
        await asyncio.to_thread(allow, connections=False)
        await until(lambda: says(NOT_SERVING, "tunewright.v1.JobService"))
        await asyncio.to_thread(allow, connections=True)
        await until(lambda: says(SERVING, "tunewright.v1.JobService"))

    admin.dispose()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ServiceProcess]:
    """Not started yet."""
    url = f"sqlite:///{tmp_path / 'scheduler.db'}"
    service = ServiceProcess("scheduler_svc", ["--database-url", url], tmp_path / "scheduler")
    try:
        yield service
    finally:
        service.stop()


def test_a_signal_drains_and_ends_it_with_0(process):
    process.start()
    ready = json.loads((process.folder / "ready.json").read_text())

    code = process.terminate()

    assert ready["pid"] == process.pid
    assert code == 0
    assert "Traceback" not in process.log_file.read_text()


def test_a_killed_scheduler_keeps_every_job_that_it_acknowledged(process):
    process.start()
    request = creation(a_job(), request_id="once")
    with grpc.insecure_channel(process.address) as channel:
        created = job_service_pb2_grpc.JobServiceStub(channel).CreateJob(request)
    process.kill()

    process.start()
    with grpc.insecure_channel(process.address) as channel:
        again = job_service_pb2_grpc.JobServiceStub(channel).CreateJob(request)

    assert again.name == created.name


def test_a_create_whose_answer_was_lost_makes_one_job(process):
    process.start(TUNEWRIGHT_CRASH_POINT="scheduler.create.committed")
    request = creation(a_job(), request_id="once")
    with (
        grpc.insecure_channel(process.address) as channel,
        pytest.raises(grpc.RpcError),
    ):
        job_service_pb2_grpc.JobServiceStub(channel).CreateJob(request)
    assert process.process is not None
    eventually_sync(lambda: process.process.poll() == -signal.SIGKILL)
    assert "crash point reached" in process.log_file.read_text()

    process.start()
    with grpc.insecure_channel(process.address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        again = stub.CreateJob(request)
        listed = stub.ListJobs(job_service_pb2.ListJobsRequest())

    assert [job.name for job in listed.jobs] == [again.name]
