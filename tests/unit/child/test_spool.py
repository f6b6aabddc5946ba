"""The form of spool.jsonl."""

from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from tunewright.v1.feed_pb2 import DataPrepared, DroppedRows, Entry, TrainMetrics

from trainer_svc.child.spool import ENTRY_BYTES_MAX, Spool


def entries(path: Path) -> list[Entry]:
    return [Parse(line, Entry()) for line in path.read_bytes().splitlines()]


def test_each_entry_is_a_line_that_reads_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl", clock_ns=lambda: 1_500_000_000_250_000_000)

    spool.event("MODEL_LOADING", "one\ntwo", name="模型", size=3)
    spool.train_metrics(TrainMetrics(step=3, loss=0.5))

    event, metrics = entries(tmp_path / "spool.jsonl")
    assert event.event.message == "one\ntwo"
    assert dict(event.event.details) == {"name": "模型", "size": "3"}
    assert event.time.ToNanoseconds() == 1_500_000_000_250_000_000
    assert metrics.train_metrics.step == 3
    assert '"train_metrics"' in (tmp_path / "spool.jsonl").read_text()
    spool.close()


@pytest.mark.parametrize("character", ["x", "长", "\0"])
def test_no_line_is_longer_than_the_limit(tmp_path: Path, character: str) -> None:
    spool = Spool(tmp_path / "spool.jsonl")

    spool.event("FAILED", character * 100_000, trace=character * 100_000)
    place = character * 20_000
    spool.data_prepared(DataPrepared(dropped=[DroppedRows(reason="empty", places=[place] * 5)]))

    lines = (tmp_path / "spool.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    assert all(len(line) <= ENTRY_BYTES_MAX for line in lines)
    assert len(entries(tmp_path / "spool.jsonl")) == 2
    spool.close()


def test_a_full_disk_is_an_error_at_once() -> None:
    spool = Spool(Path("/dev/full"))

    with pytest.raises(OSError, match="No space left"):
        spool.event("MODEL_LOADING", "x")
    spool.close()
