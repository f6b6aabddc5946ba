"""`data.check`: what training would make of the data, said by a real trainer without training."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest
from tunewright import Client
from tunewright.data import DataCheck
from tunewright.errors import (
    ApiError,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from tunewright.v1 import data_service_pb2, job_pb2, trainer_pb2

from tests.support.assets import Assets, make_vlm_assets
from tests.support.eventually import eventually_sync
from tests.support.stack import ServiceProcess, Stack
from tests.support.stopping import stop_processes

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

PATIENCE_SECONDS = 60.0
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"


def dialogue(question: str, answer: str) -> dict[str, object]:
    turns = [("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def written(stack: Stack, name: str, *rows: object) -> str:
    path = stack.root / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def checks_of(trainer: ServiceProcess) -> list[psutil.Process]:
    """The processes of the data checks on a trainer."""
    below = psutil.Process(trainer.pid).children(recursive=True)
    return [one for one in below if "trainer_svc.child.data_check" in one.cmdline()]


def held(client: Client, stack: Stack, data: str, trainer: str = "a") -> DataCheck:
    """A check whose process stands still."""
    before = {one.pid for one in checks_of(stack.trainers[trainer])}
    check = client.data.check(
        model=str(stack.root), train_data=data, trainer=trainer, accelerator="cpu"
    )

    def found() -> list[int]:
        return [one.pid for one in checks_of(stack.trainers[trainer]) if one.pid not in before]

    pids = eventually_sync(found, PATIENCE_SECONDS, "the check runs")
    stop_processes(pids)
    return check


def ready(client: Client, name: str) -> None:
    def is_ready() -> bool:
        known = {one.name: one for one in client.trainers.list()}
        found = known.get(f"trainers/{name}")
        return found is not None and found.state == trainer_pb2.TRAINER_STATE_READY

    eventually_sync(is_ready, PATIENCE_SECONDS, f"{name} is registered")


def gone(trainer: ServiceProcess, folder: Path) -> None:
    eventually_sync(lambda: not checks_of(trainer), PATIENCE_SECONDS, "the check's process is gone")
    eventually_sync(
        lambda: not list((folder / "workspace" / "checks").glob("*")),
        PATIENCE_SECONDS,
        "its folder is gone",
    )


def told(row: data_service_pb2.ShownRow) -> list[tuple[str, bool]]:
    return [(one.text, one.trained) for one in row.segments]


@pytest.fixture(autouse=True)
def registered(client: Client) -> None:
    """A job waits for a trainer to register; a check does not."""
    ready(client, "a")


@pytest.fixture
def other(client: Client, stack: Stack, assets: Assets) -> Iterator[ServiceProcess]:
    """A second trainer, which a test may end, and which ends checks soon."""
    trainer = stack.add_trainer(
        "b", roots=[assets.folder], flags=["--data-check-seconds-max", "0.2"]
    )
    ready(client, "b")
    yield trainer
    trainer.stop()


def test_a_check_says_what_a_run_of_the_same_job_says(client: Client, assets: Assets) -> None:
    arguments = {
        "model": assets.model,
        "train_data": [f"{assets.train}#50", assets.train],
        "eval_data": [assets.evaluation],
        "accelerator": "cpu",
        "hyperparameters": {"max_steps": 1, "max_length": 60},
    }

    report = client.data.check(**arguments).report()  # type: ignore[arg-type]

    job = client.jobs.create(output_dir="checked", **arguments).wait(timeout=180)  # type: ignore[arg-type]
    with job.watch() as entries:
        receipts = [one.data_prepared for one in entries if one.HasField("data_prepared")]
    assert job.succeeded, job.failure
    assert report.accepted
    assert report.verdict.total_steps == 1
    assert [one.receipt for one in report.sources] == receipts
    assert report.started.trainer == "trainers/a"
    assert report.started.spec.hyperparameters.lora_r == 16
    assert sum(one.lengths.rows for one in report.sources) == 50 + 400 + 40
    assert [row.place.rpartition(":")[2] for row in report.rows] == ["1", "2", "3"] * 3
    assert told(report.rows[0]) == [
        (
            "<|im_start|>user\nWhere can I find the wrench?<|im_end|>\n<|im_start|>assistant\n",
            False,
        ),
        (f"The wrench is under the bench.{END}", True),
        (f"\n{USER}Thanks a lot.{END}\n{ASSISTANT}", False),
        (f"You are welcome.{END}", True),
        ("\n", False),
    ]


def test_every_problem_is_named_and_the_first_is_the_jobs(
    client: Client, stack: Stack, assets: Assets
) -> None:
    sound = dialogue("hi", "ho")
    path = written(
        stack,
        "bad.jsonl",
        sound,
        {"messages": [{"role": "pirate", "content": "arr"}]},
        {"messages": []},
        {"messages": [{"role": "user", "content": "and?"}]},
        "{broken",
        dialogue("word " * 400, "end"),
        sound,
    )
    arguments = {
        "model": assets.model,
        "train_data": [path],
        "accelerator": "cpu",
        "hyperparameters": {"max_length": 64},
    }

    report = client.data.check(**arguments).report()  # type: ignore[arg-type]

    job = client.jobs.create(output_dir="bad-data", **arguments).wait(timeout=120)  # type: ignore[arg-type]
    assert not report.accepted
    assert report.verdict.failure.message == job.proto.failure.message
    assert report.verdict.failure.hint == job.proto.failure.hint
    assert report.verdict.failure.cause == job_pb2.FAILURE_CAUSE_DATASET_INVALID
    problems = {
        one.reason: [(place.place.rpartition(":")[2], place.message) for place in one.first]
        for one in report.sources[0].problems
    }
    assert problems == {
        "malformed": [
            ("2", problems["malformed"][0][1]),
            ("5", problems["malformed"][1][1]),
        ],
        "empty": [("3", "")],
        "no_assistant_turn": [("4", "")],
        "too_long": [("6", "")],
    }
    assert "message 1: unknown role 'pirate'; known: system, " in problems["malformed"][0][1]
    assert "malformed JSON" in problems["malformed"][1][1]
    assert report.sources[0].receipt.rows_read == 7
    assert report.sources[0].receipt.rows_kept == 2
    assert len(report.rows) == 2


def test_places_are_bounded_and_counts_are_not(
    client: Client, stack: Stack, assets: Assets
) -> None:
    path = written(stack, "many.jsonl", dialogue("a", "b"), *[{"messages": 5}] * 57)

    report = client.data.check(model=assets.model, train_data=path, accelerator="cpu").report()

    (problem,) = report.sources[0].problems
    assert (problem.reason, problem.count, len(problem.first)) == ("malformed", 57, 20)


def test_a_missing_model_hides_no_problem_of_the_rows(
    client: Client, stack: Stack, assets: Assets
) -> None:
    path = written(stack, "half.jsonl", dialogue("a", "b"), {"messages": 5})
    missing = str(stack.root / "no-model")
    arguments = {"model": missing, "train_data": [path], "accelerator": "cpu"}

    report = client.data.check(**arguments).report()  # type: ignore[arg-type]

    job = client.jobs.create(output_dir="no-model", **arguments).wait(timeout=120)  # type: ignore[arg-type]
    assert report.verdict.failure.cause == job_pb2.FAILURE_CAUSE_MODEL_INVALID
    assert report.verdict.failure.message == job.proto.failure.message
    assert [one.cause for one in report.verdict.more_failures] == [
        job_pb2.FAILURE_CAUSE_DATASET_INVALID
    ]
    assert [one.reason for one in report.sources[0].problems] == ["malformed"]


def test_a_missing_file_hides_no_problem_of_the_others(
    client: Client, stack: Stack, assets: Assets
) -> None:
    path = written(stack, "second.jsonl", dialogue("a", "b"), {"messages": 5})
    missing = str(stack.root / "none.jsonl")

    report = client.data.check(
        model=assets.model, train_data=[missing, path], accelerator="cpu"
    ).report()

    assert missing in report.verdict.failure.message
    assert [one.receipt.source for one in report.sources] == [path]
    assert report.sources[0].receipt.rows_kept == 1
    assert len(report.rows) == 1


def test_a_template_that_cannot_be_masked_is_refused_as_in_a_run(
    client: Client, stack: Stack, assets: Assets
) -> None:
    folder = stack.root / "no-template"
    folder.mkdir()
    for file in Path(assets.model).iterdir():
        if file.name not in ("chat_template.jinja", "tokenizer_config.json"):
            (folder / file.name).symlink_to(file)
    config = json.loads((Path(assets.model) / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    arguments = {"model": str(folder), "train_data": [assets.train], "accelerator": "cpu"}

    report = client.data.check(**arguments).report()  # type: ignore[arg-type]

    job = client.jobs.create(output_dir="no-template", **arguments).wait(timeout=120)  # type: ignore[arg-type]
    assert report.verdict.failure.message == job.proto.failure.message
    assert report.verdict.failure.cause == job_pb2.FAILURE_CAUSE_MODEL_INVALID
    assert report.sources[0].receipt.rows_read == 400


def test_a_huge_row_is_shown_in_part_and_measured_whole(
    client: Client, stack: Stack, assets: Assets
) -> None:
    path = written(stack, "huge.jsonl", dialogue("say it", "words and more " * 60_000))

    report = client.data.check(
        model=assets.model,
        train_data=path,
        accelerator="cpu",
        hyperparameters={"max_length": 1_000_000},
    ).report()

    (row,) = report.rows
    assert row.tokens == report.sources[0].lengths.max > 100_000
    assert sum(segment.tokens for segment in row.segments) == row.tokens
    assert [segment.omitted for segment in row.segments].count(True) == 1
    assert "words and more words" in row.segments[1].text
    assert sum(len(segment.text) for segment in row.segments) < 20_000


def test_pictures_are_one_repeated_segment(client: Client, stack: Stack, assets: Assets) -> None:
    seen = make_vlm_assets(stack.root / "vlm")

    report = client.data.check(
        model=seen.model, train_data=seen.train, model_kind="vlm", accelerator="cpu"
    ).report()

    assert report.accepted, report.verdict
    pictures = [one for one in report.rows[0].segments if one.repeats]
    assert [one.text for one in pictures] == ["<image>"]
    assert pictures[0].repeats == pictures[0].tokens > 1
    assert any(one.trained for one in report.rows[0].segments)
    assert sum(one.tokens for one in report.rows[0].segments) == report.rows[0].tokens


def test_the_process_sees_no_gpu_and_ends_when_the_client_does(
    client: Client, stack: Stack, assets: Assets
) -> None:
    trainer = stack.trainers["a"]
    check = held(client, stack, assets.train)
    visible = [one.environ()["CUDA_VISIBLE_DEVICES"] for one in checks_of(trainer)]

    check.close()

    gone(trainer, stack.root / "trainer-a")
    assert visible == [""]


def test_more_at_once_than_allowed_are_refused(
    client: Client, stack: Stack, assets: Assets
) -> None:
    checks = [held(client, stack, assets.train) for _ in range(2)]

    with pytest.raises(ResourceExhausted) as caught:
        client.data.check(model=assets.model, train_data=assets.train, accelerator="cpu").report()

    assert caught.value.reason == "TOO_MANY_CHECKS"
    assert "2 data checks" in caught.value.message
    for check in checks:
        check.close()
    gone(stack.trainers["a"], stack.root / "trainer-a")
    assert (
        client.data.check(model=assets.model, train_data=assets.train, accelerator="cpu")
        .report()
        .accepted
    )


def test_a_process_that_is_killed_is_an_error_that_says_so(
    client: Client, stack: Stack, assets: Assets
) -> None:
    check = held(client, stack, assets.train)

    for process in checks_of(stack.trainers["a"]):
        process.send_signal(signal.SIGKILL)

    with pytest.raises(Internal, match="SIGKILL") as caught:
        check.report()
    assert caught.value.reason == "CHECK_CRASHED"
    gone(stack.trainers["a"], stack.root / "trainer-a")


def test_one_that_takes_too_long_is_ended(
    client: Client, stack: Stack, assets: Assets, other: ServiceProcess
) -> None:
    check = client.data.check(
        model=assets.model, train_data=assets.train, trainer="b", accelerator="cpu"
    )

    with pytest.raises(DeadlineExceeded, match=r"0\.2 s") as caught:
        check.report()

    assert caught.value.reason == "CHECK_TIMED_OUT"
    gone(other, stack.root / "trainer-b")


def test_a_trainer_that_is_away_is_unavailable(
    client: Client, stack: Stack, assets: Assets, other: ServiceProcess
) -> None:
    other.kill()

    with pytest.raises(Unavailable, match="trainers/b") as caught:
        client.data.check(
            model=assets.model, train_data=assets.train, trainer="b", accelerator="cpu"
        ).report()

    assert caught.value.reason == "TRAINER_UNAVAILABLE"


def test_the_process_ends_itself_when_the_trainer_service_is_killed(
    client: Client, stack: Stack, assets: Assets
) -> None:
    trainer = stack.add_trainer("c", roots=[assets.folder])
    ready(client, "c")
    folder = stack.root / "trainer-c" / "workspace" / "checks"
    check = client.data.check(
        model=assets.model, train_data=assets.train, trainer="c", accelerator="cpu"
    )
    (process,) = eventually_sync(lambda: checks_of(trainer), PATIENCE_SECONDS, "the check runs")

    trainer.kill()

    with pytest.raises(ApiError):
        check.report()
    eventually_sync(lambda: not process.is_running(), PATIENCE_SECONDS, "it has ended itself")
    eventually_sync(lambda: not list(folder.glob("*")), PATIENCE_SECONDS, "its folder is gone")


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"rows_shown": 21}, ["rows_shown"]),
        ({"model": ""}, ["spec.model.name"]),
        ({"train_data": []}, ["spec.train_data"]),
        ({"hyperparameters": {"lora_r": 0}}, ["spec.hyperparameters.lora_r"]),
    ],
)
def test_a_bad_request_names_its_fields(
    client: Client, assets: Assets, changed: dict[str, object], fields: Sequence[str]
) -> None:
    arguments = {"model": assets.model, "train_data": [assets.train], **changed}

    with pytest.raises(InvalidRequest) as caught:
        client.data.check(**arguments).report()  # type: ignore[arg-type]

    assert [one.field for one in caught.value.violations][: len(fields)] == fields


def test_an_unknown_trainer_is_not_found(client: Client, assets: Assets) -> None:
    with pytest.raises(NotFound) as caught:
        client.data.check(model=assets.model, train_data=assets.train, trainer="nobody").report()

    assert caught.value.reason == "TRAINER_NOT_FOUND"


def test_a_recipe_is_resolved_and_needs_no_output_folder(client: Client, assets: Assets) -> None:
    report = client.data.check(
        recipe="tiny-cpu-qlora", model=assets.model, train_data=assets.train, rows_shown=0
    ).report()

    assert report.accepted, report.verdict
    assert report.rows == []
    assert report.started.spec.hyperparameters.max_steps == report.verdict.total_steps > 0


def test_the_page_shows_what_the_command_prints_and_its_python_runs(
    client: Client, stack: Stack, assets: Assets
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "check-your-data.md").read_text("utf-8")
    rows, shown, python = re.findall(r"^```(?:jsonl|console|python)\n(.*?)^```$", page, re.M | re.S)
    command, _, expected = shown.removeprefix("$ tunewright ").partition("\n")
    here = {
        "/data/dialogues.jsonl": str(stack.root / "dialogues.jsonl"),
        "/models/qwen3-tiny": assets.model,
    }
    (stack.root / "dialogues.jsonl").write_text(rows, encoding="utf-8")
    for name, path in here.items():
        command, python = command.replace(name, path), python.replace(name, path)

    done = subprocess.run(
        [sys.executable, "-m", "tunewright", *shlex.split(command)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TUNEWRIGHT_ADDRESS": stack.address},
    )
    printed = done.stdout.replace("trainers/a", "trainers/local")
    for name, path in here.items():
        printed = printed.replace(path, name)
    python = python.replace("Client()", "nullcontext(client)")
    exec(compile(python, "page", "exec"), {"client": client, "nullcontext": nullcontext})

    assert done.returncode == 1
    assert [line.split() for line in printed.splitlines()] == [
        line.split() for line in expected.splitlines()
    ]
    assert next(client.jobs.list(page_size=1)).spec.output_dir == "first"
