"""One QLoRA job, as a user meets it: handed in, watched, finished, its adapter loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tunewright import Client
from tunewright.v1 import job_pb2
from tunewright.v1.feed_pb2 import Entry

from tests.support.assets import Assets
from tests.support.stack import Stack

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

TINY = {
    "max_steps": 40,
    "logging_steps": 4,
    "eval_steps": 20,
    "save_steps": 20,
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "lora_r": 8,
}


@pytest.fixture(scope="module")
def finished(stack: Stack, assets: Assets) -> tuple[job_pb2.Job, list[Entry]]:
    """A job that has run to its end, and every entry of its feed."""
    with Client(stack.address) as client:
        job = client.jobs.create(
            model=assets.model,
            train_data=[assets.train],
            eval_data=[assets.evaluation],
            output_dir="first/result",
            accelerator="cpu",
            hyperparameters=TINY,
        )
        with job.watch() as watch:
            entries = list(watch)
        return job.wait(timeout=60).proto, entries


def payloads(entries: list[Entry], kind: str) -> list[Entry]:
    return [entry for entry in entries if entry.WhichOneof("payload") == kind]


def test_it_succeeds_in_its_first_attempt(finished: tuple[job_pb2.Job, list[Entry]]) -> None:
    job, _ = finished

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.failure
    assert job.attempt == 1
    assert job.progress.step == job.progress.total_steps == 40


def test_the_feed_is_gapless_and_ends_with_the_terminal_entry(
    finished: tuple[job_pb2.Job, list[Entry]],
) -> None:
    _, entries = finished

    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[-1].state_change.to == job_pb2.JOB_STATE_SUCCEEDED
    states = [entry.state_change.to for entry in payloads(entries, "state_change")]
    assert states == [
        job_pb2.JOB_STATE_QUEUED,
        job_pb2.JOB_STATE_STARTING,
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_PUBLISHING,
        job_pb2.JOB_STATE_SUCCEEDED,
    ]


def test_losses_fall_and_the_step_count_is_known_before_the_first(
    finished: tuple[job_pb2.Job, list[Entry]],
) -> None:
    _, entries = finished

    metrics = [entry.train_metrics for entry in payloads(entries, "train_metrics")]
    assert [one.step for one in metrics] == list(range(4, 41, 4))
    assert {one.total_steps for one in metrics} == {40}
    assert metrics[-1].loss < metrics[0].loss / 2
    assert all(one.tokens_per_second > 0 and one.HasField("eta") for one in metrics)
    assert all(before.tokens < after.tokens for before, after in pairwise(metrics))
    evaluations = [entry.eval_metrics for entry in payloads(entries, "eval_metrics")]
    assert evaluations[-1].loss < evaluations[0].loss
    started = next(entry for entry in entries if entry.event.type == "TRAINING_STARTED")
    assert started.sequence < payloads(entries, "train_metrics")[0].sequence
    assert "40" in started.event.message + "".join(started.event.details.values())


def test_the_receipt_counts_every_row(
    finished: tuple[job_pb2.Job, list[Entry]], assets: Assets
) -> None:
    _, entries = finished

    receipts = {
        entry.data_prepared.part: entry.data_prepared
        for entry in payloads(entries, "data_prepared")
    }
    rows = len(Path(assets.train).read_text(encoding="utf-8").splitlines())
    assert receipts["train"].rows_read == rows
    dropped = sum(one.count for one in receipts["train"].dropped)
    assert receipts["train"].rows_kept + dropped == rows
    assert receipts["train"].supervised_tokens < receipts["train"].tokens
    assert receipts["eval"].rows_read > 0


def test_checkpoints_are_durable_and_the_one_of_step_0_is_a_record(
    finished: tuple[job_pb2.Job, list[Entry]],
) -> None:
    _, entries = finished

    saved = [entry.checkpoint_saved for entry in payloads(entries, "checkpoint_saved")]
    assert [(one.step, one.record_only) for one in saved] == [(0, True), (20, False), (40, False)]
    for one in saved:
        manifest = Path(one.path) / "manifest.json"
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        assert one.manifest_digest == f"sha256:{digest}"


def test_the_result_has_a_manifest_whose_hashes_hold(
    finished: tuple[job_pb2.Job, list[Entry]],
) -> None:
    job, _ = finished

    folder = Path(job.output.path)
    raw = (folder / "manifest.json").read_bytes()
    assert job.output.manifest_digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    files = json.loads(raw)["files"]
    assert "adapter_model.safetensors" in files
    for name, told in files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told["sha256"], name
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert on_disk == {*files, "manifest.json"}


def test_the_adapter_loads_and_answers(
    finished: tuple[job_pb2.Job, list[Entry]], assets: Assets
) -> None:
    job, _ = finished

    done = subprocess.run(
        [
            sys.executable, "-m", "trainer_svc.child.try_adapter", "--model", assets.model,
            "--adapter", job.output.path, "--prompt", "Hello",
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip

    assert json.loads(done.stdout.splitlines()[-1])["reply"].strip()


def test_a_subscriber_after_the_end_sees_the_same(
    finished: tuple[job_pb2.Job, list[Entry]], client: Client
) -> None:
    job, entries = finished

    with client.jobs.get(job.name).watch() as watch:
        again = list(watch)

    assert again == entries


def test_logs_and_series_tell_of_the_run(
    finished: tuple[job_pb2.Job, list[Entry]], client: Client
) -> None:
    job, entries = finished

    lines = list(client.jobs.get(job.name).logs())
    series = client.jobs.get(job.name).metrics("loss")

    assert len(lines) == len(payloads(entries, "log_line"))
    told = [entry.train_metrics for entry in payloads(entries, "train_metrics")]
    assert [(point.step, point.value) for point in series.points] == [
        (one.step, one.loss) for one in told
    ]


def test_nothing_of_the_run_is_left_behind(
    finished: tuple[job_pb2.Job, list[Entry]], stack: Stack
) -> None:
    job, _ = finished

    assert [path.name for path in stack.outputs.iterdir() if path.name != ".staging"] == ["first"]
    staging = stack.outputs / ".staging"
    assert not staging.exists() or not any(staging.iterdir())
    assert not list(stack.artifacts.rglob(".tmp-*"))
    assert job.output.path == str(stack.outputs / "first" / "result")
