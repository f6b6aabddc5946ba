"""Who is asked to check data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler_svc.domain.checkers import checkers
from scheduler_svc.domain.errors import TrainerNotFound, TrainerUnavailable
from scheduler_svc.domain.fleet import Capabilities, Host, TrainerState
from scheduler_svc.domain.job import TrainerId
from scheduler_svc.domain.requirement import Requirement
from svckit.spec import Backend
from tests.unit.scheduler.builders import fleet, host

QLORA = Requirement(Backend.QLORA, gpu_count=8)
SWIFT = Requirement(Backend.SWIFT, gpu_count=1)


def without_swift(one: Host) -> Host:
    capabilities = Capabilities(
        backends=(Backend.QLORA,), missing_backends={"BACKEND_SWIFT": "not installed"}
    )
    return replace(one, trainer=replace(one.trainer, capabilities=capabilities))


def test_any_ready_trainer_will_do_the_least_busy_first() -> None:
    hosts = fleet(host("a", 2, taken=("0",)), host("b"), host("c", cordoned=True))

    asked = checkers(QLORA, None, hosts)

    assert [one.trainer_id for one in asked] == ["b", "a"]


def test_one_that_is_named_may_be_cordoned() -> None:
    asked = checkers(SWIFT, TrainerId("a"), fleet(host("a", cordoned=True), host("b")))

    assert [one.trainer_id for one in asked] == ["a"]


@pytest.mark.parametrize(
    ("need", "hosts", "words"),
    [
        (QLORA, [], "no trainers are registered"),
        (SWIFT, [without_swift(host("a"))], "no trainer has the swift backend (a: not installed)"),
        (
            QLORA,
            [host("a", state=TrainerState.LOST), host("b", cordoned=True)],
            "no trainer can check data now: a is lost, b is cordoned",
        ),
    ],
)
def test_where_there_is_none_the_words_are_those_of_a_job_that_waits(
    need: Requirement, hosts: list[Host], words: str
) -> None:
    with pytest.raises(TrainerUnavailable) as caught:
        checkers(need, None, fleet(*hosts))

    assert caught.value.message == words


def test_one_that_is_named_must_be_known_and_heard_of() -> None:
    hosts = fleet(host("a", state=TrainerState.SUSPECT))

    with pytest.raises(TrainerUnavailable, match="trainers/a has not been heard of"):
        checkers(QLORA, TrainerId("a"), hosts)
    with pytest.raises(TrainerNotFound):
        checkers(QLORA, TrainerId("b"), hosts)
