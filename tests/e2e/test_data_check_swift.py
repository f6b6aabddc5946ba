"""`data.check` with the swift backend: ms-swift's own template says what training would get."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tunewright import Client
from tunewright.v1.feed_pb2 import SEVERITY_WARNING

from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.stack import Stack, running_stack
from tests.support.swift import swift_python

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, assets: Assets) -> Iterator[Stack]:
    """One trainer that has ms-swift."""
    flags = ["--swift-python", str(swift_python())]
    root = tmp_path_factory.mktemp("swift-stack")
    with running_stack(root, roots=[assets.folder], trainer_flags=flags) as running:
        with Client(running.address) as client:
            eventually_sync(lambda: list(client.trainers.list()), 30, "the trainer is registered")
        yield running


def dialogue(question: str, answer: str) -> dict[str, object]:
    turns = [("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def written(stack: Stack, name: str, *rows: object) -> str:
    path = stack.root / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_ms_swift_says_what_it_makes_of_rows(client: Client, stack: Stack, assets: Assets) -> None:
    path = written(stack, "swift.jsonl", dialogue("hi", "日本語 é 🎉"), {"messages": 5})
    arguments = {
        "model": assets.model,
        "train_data": [path, f"{assets.train}#5"],
        "backend": "swift",
        "accelerator": "cpu",
        "swift": {"model_type": "qwen3", "template": "qwen3"},
    }

    report = client.data.check(rows_shown=1, **arguments).report()  # type: ignore[arg-type]

    assert report.verdict.failure.message.startswith(f"{path}:2: ")
    assert [one.receipt.rows_kept for one in report.sources] == [1, 5]
    assert [one.lengths.rows for one in report.sources] == [1, 5]
    assert [row.place for row in report.rows] == [f"{path}:1", f"{assets.train}:1"]
    trained = [segment.text for segment in report.rows[0].segments if segment.trained]
    assert trained == ["日本語 é 🎉<|im_end|>\n"]
    assert [one.message for one in report.events if one.severity >= SEVERITY_WARNING] == []


def test_ms_swift_without_a_known_type_is_refused_as_in_a_run(
    client: Client, stack: Stack, assets: Assets
) -> None:
    arguments = {
        "model": assets.model,
        "train_data": [assets.train],
        "backend": "swift",
        "accelerator": "cpu",
    }

    report = client.data.check(**arguments).report()  # type: ignore[arg-type]

    job = client.jobs.create(output_dir="swift-type", **arguments).wait(timeout=180)  # type: ignore[arg-type]
    assert report.verdict.failure.cause == job.proto.failure.cause
    assert report.verdict.failure.message == job.proto.failure.message
