"""Entries and records in words."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from tunewright.cli import words
from tunewright.cli.job_pages import job_page, job_row
from tunewright.job import JobRecord
from tunewright.v1 import feed_pb2, job_pb2, spec_pb2

FAILURE = job_pb2.Failure(
    cause=job_pb2.FAILURE_CAUSE_DATASET_INVALID, message="rows.jsonl:3: no JSON", hint="Mend it."
)
LINES: list[tuple[dict[str, Any], str]] = [
    (
        {
            "train_metrics": feed_pb2.TrainMetrics(
                step=10,
                total_steps=64,
                loss=2.71828,
                learning_rate=0.00019634,
                tokens_per_second=1234.5,
                eta=Duration(seconds=200),
            )
        },
        "step 10/64  loss 2.718  lr 0.0001963  1,234 tokens/s  3 min 20 s left",
    ),
    ({"train_metrics": feed_pb2.TrainMetrics(step=1, total_steps=2)}, "step 1/2"),
    (
        {"eval_metrics": feed_pb2.EvalMetrics(step=5, loss=1.5, token_accuracy=0.5)},
        "evaluated at step 5: loss 1.5, 50.0 % of tokens right",
    ),
    ({"log_line": feed_pb2.LogLine(text="hello")}, "| hello"),
    (
        {"event": feed_pb2.Event(severity=feed_pb2.SEVERITY_WARNING, message="slow disk")},
        "warning: slow disk",
    ),
    ({"event": feed_pb2.Event(type="MODEL_LOADED", message="/m")}, "model loaded /m"),
    (
        {"checkpoint_saved": feed_pb2.CheckpointSaved(step=20, size_bytes=1536)},
        "checkpoint at step 20 saved, 1.5 KiB",
    ),
    (
        {
            "data_prepared": feed_pb2.DataPrepared(
                part="train",
                rows_read=1000,
                rows_kept=990,
                rows_truncated=2,
                tokens=5000,
                dropped=[feed_pb2.DroppedRows(reason="too_long", count=10)],
            )
        },
        "train data: 990 of 1,000 rows kept (dropped: 10 too long), 2 cut short, 5,000 tokens",
    ),
    (
        {"gap": feed_pb2.Gap(reason="RETENTION", first_sequence=1, last_sequence=9)},
        "entries 1 to 9 are missing (RETENTION)",
    ),
    ({"gap": feed_pb2.Gap(reason="SOURCE_LOST")}, "entries are missing (SOURCE_LOST)"),
    (
        {"state_change": feed_pb2.StateChange(to=job_pb2.JOB_STATE_STARTING, trainer="trainers/a")},
        "STARTING on a",
    ),
    (
        {"state_change": feed_pb2.StateChange(to=job_pb2.JOB_STATE_FAILED, failure=FAILURE)},
        "FAILED: DATASET_INVALID: rows.jsonl:3: no JSON (Mend it.)",
    ),
    ({"keepalive": feed_pb2.Keepalive()}, "(alive)"),
    (
        {"system_sample": feed_pb2.SystemSample(cpu_percent=50, memory_bytes_used=2**30)},
        "cpu 50 %, memory 1.0 GiB in use",
    ),
    ({}, "(an entry that this version does not know)"),
]


@pytest.mark.parametrize(("payload", "expected"), LINES, ids=lambda value: str(value)[:30])
def test_every_kind_of_entry_is_one_line(payload: dict[str, Any], expected: str) -> None:
    assert words.entry_line(feed_pb2.Entry(**payload)) == expected


def test_there_are_words_for_every_kind_of_entry() -> None:
    kinds = {field.name for field in feed_pb2.Entry.DESCRIPTOR.oneofs_by_name["payload"].fields}

    told = {name for payload, _ in LINES for name in payload}

    assert told == kinds


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (42, "42 s"), (59.6, "1 min 0 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_spans(seconds: float, expected: str) -> None:
    assert words.span(seconds) == expected


def job(**values: Any) -> JobRecord:
    spec = spec_pb2.JobSpec(
        model=spec_pb2.ModelSource(name="/models/tiny"),
        resources=spec_pb2.Resources(accelerator=spec_pb2.ACCELERATOR_CPU, trainer="trainers/a"),
        output_dir="out",
    )
    return JobRecord(job_pb2.Job(name="jobs/a", spec=spec, **values))


def test_a_row_says_why_a_job_waits() -> None:
    row = job_row(job(state=job_pb2.JOB_STATE_QUEUED, pending_reason="needs 2 GPUs; a has 1 free"))

    assert row == ("a", "QUEUED", "", "", "", "LLM", "tiny", "", "needs 2 GPUs; a has 1 free")


def test_a_row_and_a_page_say_what_a_job_reads_and_which_recipe_it_is_from() -> None:
    record = job(state=job_pb2.JOB_STATE_QUEUED, recipe="recipes/vlm-swift@1")
    record.proto.spec.model_kind = spec_pb2.MODEL_KIND_VLM

    row, page = job_row(record), dict(job_page(record))

    assert row[5:8] == ("VLM", "tiny", "vlm-swift@1")
    assert (page["kind"], page["recipe"]) == ("VLM", "recipes/vlm-swift@1")


def test_a_row_says_how_far_a_job_is() -> None:
    progress = job_pb2.Progress(step=40, total_steps=64, loss=0.5)

    row = job_row(job(state=job_pb2.JOB_STATE_RUNNING, progress=progress))

    assert row[1:4] == ("RUNNING", "40/64 (62 %)", "0.5")


def test_a_page_says_which_hub_commits_a_job_uses() -> None:
    progress = job_pb2.Progress(revisions={"datasets/acme/talk": "d0", "acme/tiny": "c0"})

    page = dict(job_page(job(state=job_pb2.JOB_STATE_RUNNING, progress=progress)))

    assert page["hub commits"] == "acme/tiny@c0, datasets/acme/talk@d0"


def test_a_page_says_what_failed_and_where() -> None:
    attempt = job_pb2.Attempt(attempt=1, trainer="trainers/a", gpu_ids=["0"], failure=FAILURE)

    page = dict(job_page(job(state=job_pb2.JOB_STATE_FAILED, failure=FAILURE, attempts=[attempt])))

    assert page["state"] == "FAILED"
    assert page["runs on"] == "CPU on trainers/a"
    assert page["failure"] == "DATASET_INVALID: rows.jsonl:3: no JSON (Mend it.)"
    assert page["attempt 1"].startswith("a, GPU 0: DATASET_INVALID")


def test_a_command_stands_a_flag_a_line_and_quoted_as_a_shell_needs_it() -> None:
    argv = ["swift", "sft", "--dataset", "a#5", "b c", "--output_dir", "<run>/swift", "--flag"]

    lines = words.command_lines(argv).splitlines()

    assert lines == [
        "swift sft \\",
        "    --dataset 'a#5' 'b c' \\",
        "    --output_dir '<run>/swift' \\",
        "    --flag",
    ]
