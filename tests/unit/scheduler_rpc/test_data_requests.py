"""CheckData's requests: every bad field in one answer."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import ParseDict
from tunewright.v1 import data_service_pb2

from scheduler_svc.application.creation import FromRecipe
from scheduler_svc.rpc.data_requests import check_of
from svckit.refusal import InvalidRequest
from svckit.spec import JobSpec

SPEC = {"model": {"name": "a/b"}, "train_data": [{"source": "c/d"}]}


def request(**fields: object) -> data_service_pb2.CheckDataRequest:
    return ParseDict(fields, data_service_pb2.CheckDataRequest())


def test_a_spec_needs_no_output_folder() -> None:
    asked = check_of(request(spec=SPEC, trainer="trainers/a"))

    assert isinstance(asked.spec, JobSpec)
    assert asked.spec.output_dir == "data-check"
    assert asked.trainer_id == "a"


def test_a_recipe_gets_what_is_given_and_what_is_wrong_besides() -> None:
    asked = check_of(request(recipe="recipes/r@2", spec=SPEC, rows_shown=99))

    assert isinstance(asked.spec, FromRecipe)
    assert (asked.spec.ref.recipe_id, asked.spec.ref.version) == ("r", 2)
    assert set(asked.spec.given) == {"model", "train_data"}
    assert [one.field for one in asked.spec.noted] == ["rows_shown"]


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({}, ["spec"]),
        ({"spec": {}, "rows_shown": -1}, ["rows_shown", "spec.model", "spec.train_data"]),
        ({"spec": SPEC, "trainer": "jobs/x", "rows_shown": 21}, ["rows_shown", "trainer"]),
        ({"recipe": "nonsense/x", "spec": SPEC}, ["recipe"]),
    ],
)
def test_every_bad_field_is_named_at_once(fields: dict[str, object], bad: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_of(request(**fields))

    found = sorted(one.field for one in caught.value.violations)
    assert [one for one in bad if not any(name.startswith(one) for name in found)] == []
    assert len(found) == len(bad)
