"""Entries: what the service writes, what it reads, and the progress they add up to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tunewright.v1 import feed_pb2

from trainer_svc.domain.runs import Ending, RunKey, RunOutcome
from trainer_svc.supervisor import service_log
from trainer_svc.supervisor.feed_batches import BATCH_BYTES_MAX, ENTRIES_MAX, read_batch
from trainer_svc.supervisor.progress import ProgressReader
from trainer_svc.supervisor.run import Run
from trainer_svc.supervisor.service_log import ServiceLog
from trainer_svc.supervisor.workspace import Workspace

SOURCE = "source"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    workspace = Workspace.open(tmp_path / "workspace")
    yield Run(workspace.make_run(RunKey("job-a", 1)))
    workspace.close()


def write(run: Run, stream: str, *lines: object) -> None:
    with open(run.folder.stream_file(stream), "a", encoding="utf-8") as file:
        file.writelines(
            f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines
        )


def read_all(run: Run, stream: str) -> list[feed_pb2.FeedBatch]:
    found: list[feed_pb2.FeedBatch] = []
    position = 0
    while (batch := read_batch(run, stream, position, SOURCE)) is not None:
        found.append(batch)
        position = batch.cursor.position
        if batch.end:
            break
    return found


def test_progress_is_the_latest_of_each_value(run: Run) -> None:
    reader = ProgressReader(run.folder)
    started = {"event": {"type": "TRAINING_STARTED", "details": {"total_steps": "50"}}}
    write(run, "spool", {"event": {"type": "MODEL_LOADING"}}, "torn", started)
    before = reader.read()

    write(run, "spool", {"train_metrics": {"step": "10", "total_steps": "50", "loss": 2.5}})
    write(run, "spool", {"checkpoint_saved": {"step": "0", "record_only": True}})
    write(run, "spool", {"checkpoint_saved": {"step": "12"}}, {"eval_metrics": {"loss": 2.0}})
    after = reader.read()

    assert (before.phase, before.total_steps, before.step) == ("training", 50, 0)
    assert (after.step, after.checkpoint_step) == (12, 12), "a step that was saved was done"
    assert (after.loss, after.eval_loss) == (2.5, 2.0)


def test_progress_has_the_hub_commits_and_what_is_downloaded(run: Run) -> None:
    reader = ProgressReader(run.folder)
    pinned = {"acme/tiny": "c0", "datasets/acme/talk": "d0"}
    for name, revision in pinned.items():
        details = {"name": name, "revision": revision}
        write(run, "spool", {"event": {"type": "HUB_PINNED", "details": details}})

    write(run, "spool", {"event": {"type": "MODEL_DOWNLOADING"}})
    model = reader.read()
    write(run, "spool", {"event": {"type": "DATA_DOWNLOADING"}})
    data = reader.read()

    assert (model.phase, data.phase) == ("downloading model", "downloading data")
    assert dict(data.revisions) == pinned


def test_progress_says_how_far_the_preparation_of_data_is(run: Run) -> None:
    reader = ProgressReader(run.folder)
    write(run, "spool", {"event": {"type": "DATA_PREPARING"}})
    began = reader.read()

    message = "encoded 500 of 2,000 rows of a.jsonl"
    write(run, "spool", {"event": {"type": "DATA_PROGRESS", "message": message}})
    later = reader.read()

    assert began.phase == "preparing data"
    assert later.phase == "preparing data: encoded 500 of 2,000 rows of a.jsonl"


def test_a_line_that_the_service_left_half_written_is_closed_before_the_next(run: Run) -> None:
    run.folder.stream_file("service").write_text('{"event": {"ty')

    run.log.event(service_log.INFO, "ADOPTED", "back")
    batches = read_all(run, "service")

    types = [entry.event.type for batch in batches for entry in batch.entries]
    assert types == ["MALFORMED_LINE", "ADOPTED"]


def test_an_event_is_said_once_over_a_restart(run: Run) -> None:
    for _ in range(2):
        log = ServiceLog(run.folder.stream_file("service"))
        log.event_once(service_log.ERROR, "RUN_FAILED", "why")

    assert run.folder.stream_file("service").read_text().count("RUN_FAILED") == 1


def test_batches_stay_within_both_bounds(run: Run) -> None:
    small = [{"train_metrics": {"step": str(step)}} for step in range(1, 301)]
    large = [{"event": {"type": "BIG", "message": "x" * 60_000}} for _ in range(40)]
    write(run, "spool", *small, *large)

    batches = read_all(run, "spool")

    assert len(batches[0].entries) == ENTRIES_MAX
    assert all(sum(one.ByteSize() for one in batch.entries) <= BATCH_BYTES_MAX for batch in batches)
    assert sum(len(batch.entries) for batch in batches) == 340
    assert not any(batch.end for batch in batches)


def test_a_line_over_the_limit_is_a_warning(run: Run) -> None:
    write(run, "spool", {"event": {"type": "BIG", "message": "x" * 70_000}})

    (batch,) = read_all(run, "spool")

    assert [entry.event.type for entry in batch.entries] == ["OVERSIZED_LINE"]


def test_a_stream_ends_once_nothing_can_follow(run: Run) -> None:
    write(run, "spool", {"train_metrics": {"step": "1"}})
    living = read_all(run, "spool")

    run.end(Ending(RunOutcome.COMPLETED))
    spool, service = read_all(run, "spool"), read_all(run, "service")

    assert [batch.end for batch in living] == [False]
    assert [batch.end for batch in spool] == [True]
    # The service still has to say that the result was published.
    assert service == []


def test_only_a_whole_acknowledged_stream_counts(run: Run) -> None:
    write(run, "spool", {"train_metrics": {"step": "1"}})
    run.ack("spool", 5)
    run.end(Ending(RunOutcome.STOPPED))
    partly = run.fully_read

    run.ack("spool", run.folder.stream_size("spool"))

    assert not partly
    assert run.fully_read
    assert Run(run.folder).fully_read
