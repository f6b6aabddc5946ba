"""Row 45: a trainer is stopped between the grant and the rename, the job cancelled meanwhile."""

from __future__ import annotations

import grpc
import pytest
from tunewright.errors import ForbiddenMove
from tunewright.jobs import Job
from tunewright.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost, events, moves, stored_entries
from tests.support.eventually import eventually_sync
from tests.support.stopping import let_go_on, stopping, stops_at

POINT = "publish_granted"


def granted_and_stopped(losing: Installation) -> Job:
    """A job that may publish, on a trainer that stands still, and that is LOST by now."""
    losing.trainer("a").start(**stopping(POINT))
    job = losing.submit(["entries", 3], ["complete"])
    stops_at(losing.trainers["a"], POINT)
    assert not (losing.outputs / "out").exists()
    with pytest.raises(ForbiddenMove) as caught:
        job.cancel()
    assert caught.value.metadata["state"] == "JOB_STATE_PUBLISHING"
    losing.await_trainer("a", "LOST")
    return job


def test_45_the_grant_stands(losing: Installation) -> None:
    job = granted_and_stopped(losing)
    losing.add_trainers("b")  # somewhere to go to, if it were given up
    with pytest.raises(ForbiddenMove):
        job.cancel()
    waits = eventually_sync(lambda: job.refresh().pending_reason, 10, "a pending reason")
    assert "trainers/a" in waits
    assert job.state == "PUBLISHING"

    let_go_on([losing.trainers["a"].pid])

    entries = check_nothing_lost(losing, job)
    assert moves(entries) == ["QUEUED", "STARTING", "RUNNING", "PUBLISHING", "SUCCEEDED"]


def test_45_only_an_administrator_abandons_it(losing: Installation) -> None:
    job = granted_and_stopped(losing)

    with grpc.insecure_channel(losing.scheduler.address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        stub.AbandonJob(job_service_pb2.AbandonJobRequest(name=job.name), timeout=10)
    let_go_on([losing.trainers["a"].pid])
    losing.await_trainer("a", "READY")

    assert job.refresh().state == "FAILED"
    assert job.failure is not None
    assert job.failure.cause == job_pb2.FAILURE_CAUSE_LOST
    # The host may have been past the rename: the folder stays taken, whatever is in it.
    eventually_sync(lambda: losing.file("a", job, "published.json"), 30, "the rename")
    # That it was moved after all is told, behind the end that an administrator gave it.
    eventually_sync(
        lambda: "PUBLISHED" in events(stored_entries(losing, job)), 30, "the monitor is told"
    )
    entries = stored_entries(losing, job)
    assert moves(entries)[-2:] == ["PUBLISHING", "FAILED"]
    assert [one.sequence for one in entries] == list(range(1, len(entries) + 1))
    assert job.refresh().state == "FAILED"
