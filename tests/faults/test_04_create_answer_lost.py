"""Row 4: CreateJob's answer is lost, and the client asks again."""

from __future__ import annotations

import threading

import grpc
import pytest
from tunewright import Client
from tunewright.jobs import Job
from tunewright.requests import create_job
from tunewright.v1 import job_service_pb2, job_service_pb2_grpc

from tests.faults.harness import Installation, armed, crashes_at
from tests.faults.nothing_lost import check_nothing_lost, moves
from tests.support.proxy import relay_to

POINT = "scheduler.create.committed"


def test_04_create_answer_lost_same_request_same_job(installation: Installation) -> None:
    request = _request("r1")
    installation.scheduler.kill()
    installation.scheduler.start(**armed(POINT))
    with grpc.insecure_channel(installation.scheduler.address) as channel:
        with pytest.raises(grpc.RpcError):
            job_service_pb2_grpc.JobServiceStub(channel).CreateJob(request, timeout=10)
    crashes_at(installation.scheduler, POINT)
    installation.scheduler.start()

    with grpc.insecure_channel(installation.scheduler.address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        first = stub.CreateJob(request, timeout=10)
        second = stub.CreateJob(request, timeout=10)

    assert first.name == second.name
    _check_one_job(installation, first.name)


def test_04_client_retries_by_itself(installation: Installation) -> None:
    installation.scheduler.kill()
    installation.scheduler.start(**armed(POINT))
    created: list[Job] = []

    thread = threading.Thread(target=lambda: created.append(_submit(installation)))
    thread.start()
    crashes_at(installation.scheduler, POINT)
    installation.scheduler.start()
    thread.join(30)

    _check_one_job(installation, created[0].name)


def test_04_answer_held_by_the_network(installation: Installation) -> None:
    with relay_to(installation.scheduler.address) as relay:
        with grpc.insecure_channel(relay.address) as channel:
            stub = job_service_pb2_grpc.JobServiceStub(channel)
            grpc.channel_ready_future(channel).result(10)
            relay.cut("to_client")
            with pytest.raises(grpc.RpcError) as caught:
                stub.CreateJob(_request("r2"), timeout=1)
            relay.heal()
            again = stub.CreateJob(_request("r2"), timeout=10)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    _check_one_job(installation, again.name)


def _request(request_id: str) -> job_service_pb2.CreateJobRequest:
    arguments = {
        "model": "some/model",
        "train_data": ["some/data"],
        "accelerator": "cpu",
        "output_dir": "out",
        "system_prompt": '[["complete"]]',
    }
    return create_job(arguments, request_id)


def _submit(installation: Installation) -> Job:
    with Client(installation.scheduler.address) as client:
        return client.jobs.create(
            model="some/model",
            train_data=["some/data"],
            accelerator="cpu",
            output_dir="out",
            system_prompt='[["complete"]]',
        )


def _check_one_job(installation: Installation, name: str) -> None:
    assert [one.name for one in installation.client.jobs.list()] == [name]
    entries = check_nothing_lost(installation, installation.client.jobs.get(name))
    assert moves(entries).count("QUEUED") == 1
