"""Data checks of both clients and of the command line, against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from tunewright import AsyncClient, Client, errors
from tunewright.v1 import data_service_pb2, feed_pb2, job_pb2, spec_pb2
from tunewright.wire.reasons import Reason, Violation
from tunewright.wire.status import make_error

from tests.integration.sdk.fake_services import FakeScheduler, Served
from tests.support.eventually import eventually, eventually_sync

Tunewright = Callable[..., subprocess.CompletedProcess[str]]

ARGUMENTS: dict[str, Any] = {
    "model": "/models/a",
    "train_data": ["/data/a.jsonl#10", {"source": "/data/b.json", "format": "lccc"}],
    "eval_data": "/data/e.jsonl",
    "hyperparameters": {"max_length": 64},
    "model_kind": "vlm",
    "strict": False,
    "system_prompt": "Be kind.",
    "trainer": "a",
    # Of the job alone: a check takes them and has no use for them.
    "output_dir": "out",
    "labels": {"team": "x"},
    "priority": 3,
    "hold": True,
}


def response(**payload: Any) -> data_service_pb2.CheckDataResponse:
    return data_service_pb2.CheckDataResponse(**payload)


def segment(text: str, trained: bool = False, **more: Any) -> data_service_pb2.RowSegment:
    return data_service_pb2.RowSegment(text=text, trained=trained, tokens=2, **more)


STARTED = response(
    started=data_service_pb2.DataCheckStarted(
        trainer="trainers/a", spec=spec_pb2.JobSpec(output_dir="data-check")
    )
)
ROW = response(
    row=data_service_pb2.ShownRow(
        part="train",
        source="/data/a.jsonl",
        place="/data/a.jsonl:1",
        tokens=9,
        supervised_tokens=2,
        truncated=True,
        segments=[
            segment("<user>hi\x1b[2J\n"),
            segment("ho\nha", trained=True),
            segment("<image>", repeats=576),
            segment("", omitted=True),
        ],
    )
)
SOURCE = response(
    source=data_service_pb2.SourceReport(
        receipt=feed_pb2.DataPrepared(
            part="train",
            source="/data/a.jsonl",
            rows_read=1200,
            rows_kept=1198,
            rows_truncated=3,
            tokens=9000,
            supervised_tokens=500,
            dropped=[feed_pb2.DroppedRows(reason="malformed", count=2)],
        ),
        lengths=data_service_pb2.TokenLengths(rows=1198, min=2, median=8, p95=60, max=4000),
        problems=[
            data_service_pb2.DataProblem(
                reason="malformed",
                count=2,
                first=[
                    data_service_pb2.DataProblemPlace(
                        place="/data/a.jsonl:7", message="message 1: unknown\nrole"
                    )
                ],
            )
        ],
    )
)
ACCEPTED = response(
    verdict=data_service_pb2.DataVerdict(
        accepted=True, total_steps=150, not_checked=["the weights", "the GPU's memory"]
    )
)
REFUSED = response(
    verdict=data_service_pb2.DataVerdict(
        failure=job_pb2.Failure(
            cause=job_pb2.FAILURE_CAUSE_DATASET_INVALID, message="a row", hint="Correct it."
        ),
        more_failures=[job_pb2.Failure(cause=job_pb2.FAILURE_CAUSE_MODEL_INVALID, message="m")],
    )
)


@pytest.fixture
def says(scheduler: FakeScheduler) -> FakeScheduler:
    warning = feed_pb2.Event(severity=feed_pb2.SEVERITY_WARNING, type="W", message="look at this")
    scheduler.check_says = [STARTED, response(event=warning), ROW, SOURCE, ACCEPTED]
    return scheduler


@pytest.fixture
def environment(scheduler_server: Served) -> dict[str, str]:
    return {**os.environ, "TUNEWRIGHT_ADDRESS": scheduler_server.address}


@pytest.fixture
def tunewright(environment: dict[str, str], tmp_path: Path) -> Tunewright:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunewright", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            cwd=tmp_path,
        )

    return run


async def test_both_clients_send_and_give_the_same(
    client: Client, async_client: AsyncClient, says: FakeScheduler
) -> None:
    report = client.data.check(rows_shown=5, **ARGUMENTS).report()
    again = await async_client.data.check(rows_shown=5, **ARGUMENTS).report()
    listed = [one async for one in async_client.data.check(rows_shown=5, **ARGUMENTS)]

    assert report == again
    assert listed == says.check_says == list(client.data.check(rows_shown=5, **ARGUMENTS))
    first, *others = says.calls(data_service_pb2.CheckDataRequest)
    assert others == [first] * 3
    assert report.accepted
    assert report.started.trainer == "trainers/a"
    assert (report.rows, report.sources) == ([ROW.row], [SOURCE.source])
    assert [one.message for one in report.events] == ["look at this"]


def test_a_check_sends_the_spec_of_the_job_and_the_trainer_beside_it(
    client: Client, says: FakeScheduler
) -> None:
    client.data.check(**ARGUMENTS).report()

    (request,) = says.calls(data_service_pb2.CheckDataRequest)
    assert request.trainer == "trainers/a"
    assert request.rows_shown == 3
    wanted = {
        "model": {"name": "/models/a"},
        "train_data": [
            {"source": "/data/a.jsonl#10"},
            {"source": "/data/b.json", "format": "DATA_FORMAT_LCCC"},
        ],
        "eval_data": [{"source": "/data/e.jsonl"}],
        "hyperparameters": {"max_length": 64},
        "model_kind": "MODEL_KIND_VLM",
        "strict": False,
        "system_prompt": "Be kind.",
        "output_dir": "out",
    }
    assert request.spec == ParseDict(wanted, spec_pb2.JobSpec())


def test_a_recipe_that_fixes_where_jobs_run_does_not_fix_where_data_is_looked_at(
    client: Client, says: FakeScheduler
) -> None:
    client.data.check(recipe="llm-swift", trainer="a", rows_shown=0).report()

    (request,) = says.calls(data_service_pb2.CheckDataRequest)
    assert (request.recipe, request.trainer) == ("recipes/llm-swift", "trainers/a")
    assert request.HasField("rows_shown")
    assert not request.spec.HasField("resources")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"modle": "x"}, "modle"),
        ({"model": 5}, "job.spec.model"),
        ({"trainer": 5}, "request.trainer"),
        ({"rows_shown": "many"}, "request.rows_shown"),
    ],
)
def test_what_no_request_can_hold_is_refused_by_name(
    client: Client, scheduler: FakeScheduler, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.data.check(**arguments)

    assert [one.field for one in caught.value.violations] == [field]
    assert scheduler.requests == []


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.TRAINER_UNAVAILABLE, errors.Unavailable),
        (Reason.TOO_MANY_CHECKS, errors.ResourceExhausted),
        (Reason.CHECK_TIMED_OUT, errors.DeadlineExceeded),
        (Reason.CHECK_CRASHED, errors.Internal),
    ],
)
async def test_each_refusal_is_an_exception_of_its_own(
    client: Client,
    async_client: AsyncClient,
    scheduler: FakeScheduler,
    reason: Reason,
    kind: type[errors.ApiError],
) -> None:
    scheduler.failures = [make_error(reason, "told why")] * 2

    with pytest.raises(kind, match="told why") as caught:
        client.data.check(model="m").report()
    with pytest.raises(kind, match="told why"):
        await async_client.data.check(model="m").report()

    assert caught.value.reason == reason


async def test_a_stream_without_a_verdict_is_an_error(
    client: Client, async_client: AsyncClient, scheduler: FakeScheduler
) -> None:
    scheduler.check_says = [STARTED, ROW]

    with pytest.raises(errors.Internal, match="without a verdict"):
        client.data.check(model="m").report()
    with pytest.raises(errors.Internal, match="without a verdict"):
        await async_client.data.check(model="m").report()


def test_leaving_the_block_ends_the_check(client: Client, says: FakeScheduler) -> None:
    says.checks_held = True

    with client.data.check(model="m") as check:
        first = next(check)
        running = says.checks_open

    eventually_sync(lambda: says.checks_open == 0, 10, "the service ends it")
    assert (first, running) == (STARTED, 1)
    assert list(check) == []


async def test_leaving_the_async_block_ends_the_check(
    async_client: AsyncClient, says: FakeScheduler
) -> None:
    says.checks_held = True

    async with async_client.data.check(model="m") as check:
        first = await anext(check)

    await eventually(lambda: says.checks_open == 0, 10, "the service ends it")
    assert first == STARTED
    assert [one async for one in check] == []


def test_the_command_prints_receipt_problems_rows_and_verdict(
    tunewright: Tunewright, says: FakeScheduler
) -> None:
    done = tunewright("data", "check", "--model", "m/m", "--data", "d/d", "--rows", "1")

    assert (done.returncode, done.stderr) == (0, "warning: look at this\n")
    assert done.stdout.splitlines() == [
        "PART   SOURCE         READ   KEPT   CUT  DROPPED  TOKENS  TRAINED  LENGTHS",
        "train  /data/a.jsonl  1,200  1,198  3    2        9,000   500      2 / 8 / 60 / 4,000",
        "lengths: tokens of a row before it is cut, shortest / median / 95 % / longest",
        "",
        "problems",
        "  2 rows malformed (train, /data/a.jsonl)",
        "    a.jsonl:7: message 1: unknown role",
        "    and 1 more",
        "",
        "first rows; what is trained is in [[ ]]",
        "  a.jsonl:1 (train): 9 tokens, 2 trained, cut at max_length",
        "    <user>hi\\x1b[2J",
        "    [[ho",
        "    ha]]<image>(x 576)",
        "    … 2 tokens not shown …",
        "",
        "ACCEPTED  a job with this data would begin to train: 150 steps",
        "not checked: the weights; the GPU's memory",
        "checked on trainers/a",
    ]


def test_the_command_ends_with_1_where_the_job_would_fail(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    scheduler.check_says = [STARTED, REFUSED]

    done = tunewright("data", "check", "--model", "m/m", "--data", "d/d")

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "",
        "REFUSED  a job with this data would fail: DATASET_INVALID: a row (Correct it.)",
        "also: MODEL_INVALID: m",
        "checked on trainers/a",
    ]


def test_the_command_prints_each_message_as_json(
    tunewright: Tunewright, says: FakeScheduler
) -> None:
    done = tunewright("data", "check", "--model", "m/m", "--data", "d/d", "--json")

    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [next(iter(one)) for one in records] == ["started", "event", "row", "source", "verdict"]
    assert records[-1]["verdict"]["accepted"] is True


def test_the_command_sends_what_was_typed_with_paths_made_absolute(
    tunewright: Tunewright, says: FakeScheduler, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").touch()

    done = tunewright(
        "data", "check", "--recipe", "r", "--model", "a/b", "--data", "rows.jsonl#10",
        "--eval-data", "c/d", "--format", "lccc", "--set", "max_length=64", "--no-strict",
        "--backend", "swift", "--swift", "template=qwen3", "--trainer", "t", "--rows", "0",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    (request,) = says.calls(data_service_pb2.CheckDataRequest)
    assert request.spec.train_data[0].source == f"{tmp_path}/rows.jsonl#10"
    assert request.spec.train_data[0].format == spec_pb2.DATA_FORMAT_LCCC
    assert request.spec.hyperparameters.max_length == 64
    assert request.spec.swift.template == "qwen3"
    assert (request.recipe, request.trainer, request.rows_shown) == ("recipes/r", "trainers/t", 0)


def test_a_bad_request_is_a_line_for_each_option_and_exit_code_2(
    tunewright: Tunewright, scheduler: FakeScheduler
) -> None:
    violations = (Violation("spec.model.name", "is required"), Violation("rows_shown", "too many"))
    scheduler.failures = [make_error(Reason.INVALID_REQUEST, "bad", violations=violations)]

    done = tunewright("data", "check", "--data", "d/d", "--rows", "99")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --model: is required",
        "error: --rows: too many",
    ]


def test_ctrl_c_ends_the_check(environment: dict[str, str], says: FakeScheduler) -> None:
    says.checks_held = True
    process = subprocess.Popen(
        [sys.executable, "-m", "tunewright", "data", "check", "--model", "m/m", "--data", "d/d"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    eventually_sync(lambda: says.checks_open == 1, 30, "the check runs")

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    eventually_sync(lambda: says.checks_open == 0, 10, "the service ends it")
    assert process.returncode == 130
