"""Requests for a new job: what of them may go to the store."""

import pytest
from tunewright.v1 import job_pb2, job_service_pb2, spec_pb2

from scheduler_svc.application.creation import FromRecipe
from scheduler_svc.rpc.job_requests import creation_of
from scheduler_svc.rpc.labels import RecordLimits
from svckit.refusal import InvalidRequest
from tests.unit.scheduler.test_jobs_from_recipes import TINY, world_with_recipe

LIMITS = RecordLimits()


def test_nothing_is_looked_up_by_a_bad_id_and_it_is_refused_with_all_else():
    world = world_with_recipe()
    job = job_pb2.Job(recipe=TINY.name, spec=spec_pb2.JobSpec(strict=False), priority=5000)
    request = job_service_pb2.CreateJobRequest(job=job, request_id="a\0b", job_id="A\0b")

    new, options = creation_of(request, LIMITS)
    with pytest.raises(InvalidRequest) as caught:
        world.scheduler.jobs.create(new, options)

    assert isinstance(new.spec, FromRecipe)
    assert (options.request_id, options.job_id) == ("", "")
    assert [one.field for one in caught.value.violations] == [
        "request_id",
        "job_id",
        "job.priority",
        "job.spec.strict",
        "job.spec.output_dir",
    ]


def test_good_ids_go_along_with_what_else_is_wrong():
    job = job_pb2.Job(recipe=TINY.name, priority=5000)
    request = job_service_pb2.CreateJobRequest(job=job, request_id="a", job_id="b")

    _, options = creation_of(request, LIMITS)

    assert (options.request_id, options.job_id) == ("a", "b")


def test_a_request_is_known_by_what_was_set_and_not_by_defaults():
    spec = spec_pb2.JobSpec(output_dir="o", train_data=[spec_pb2.DataSource(source="c/d")])
    spec.model.name = "a/b"
    request = job_service_pb2.CreateJobRequest(job=job_pb2.Job(spec=spec))

    new, _ = creation_of(request, LIMITS)

    assert new.asked == {
        "model": {"name": "a/b"},
        "train_data": [{"source": "c/d"}],
        "output_dir": "o",
    }
