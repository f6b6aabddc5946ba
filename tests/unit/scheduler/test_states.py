"""The table of moves, and its picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tunewright.v1 import job_pb2

from scheduler_svc.domain.states import MOVES, TERMINAL, JobState, may_move

DOCUMENT = Path(__file__).parents[3] / "docs" / "job-states.md"
S = JobState


def short(state: JobState) -> str:
    return state.value.removeprefix("JOB_STATE_")


def test_states_are_those_of_the_contract() -> None:
    in_contract = set(job_pb2.JobState.keys()) - {"JOB_STATE_UNSPECIFIED"}

    assert {state.value for state in JobState} == in_contract
    assert set(MOVES) == set(JobState)


def test_final_states_are_the_three() -> None:
    assert {S.SUCCEEDED, S.FAILED, S.CANCELLED} == TERMINAL


def test_the_grant_to_publish_is_taken_back_by_nobody() -> None:
    assert MOVES[S.PUBLISHING] == {S.SUCCEEDED, S.FAILED}


def test_only_publishing_leads_to_success() -> None:
    assert [state for state in JobState if may_move(state, S.SUCCEEDED)] == [S.PUBLISHING]


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_every_other_state_has_a_way_to_an_end(state: JobState) -> None:
    reached = {state}
    while new := {target for one in reached for target in MOVES[one]} - reached:
        reached |= new

    assert reached & TERMINAL


def test_the_document_s_table_is_the_table() -> None:
    rows = re.findall(r"^\| `([A-Z]+)` \| ([^|]*) \|", DOCUMENT.read_text(), re.MULTILINE)

    documented = {state: set(re.findall(r"`([A-Z]+)`", targets)) for state, targets in rows}

    assert documented == {
        short(state): {short(target) for target in targets} for state, targets in MOVES.items()
    }


def test_the_document_s_diagram_is_the_table() -> None:
    arrows = re.findall(r"^\s+([A-Z]+) --> ([A-Z]+)", DOCUMENT.read_text(), re.MULTILINE)

    expected = {(short(one), short(other)) for one, targets in MOVES.items() for other in targets}

    assert set(arrows) == expected
    assert len(arrows) == len(expected)
