"""Row 44: a resume that would train no step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tunewright.v1 import job_pb2

from tests.faults.harness import Installation
from tests.faults.nothing_lost import check_nothing_lost, events, steps
from tests.faults.real_child import add_real_trainer, submit_real
from tests.support.assets import Assets
from tests.support.eventually import eventually_sync
from tests.support.stopping import let_go_on, stop_child_at

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

SMALL = {
    "save_steps": 2,
    "logging_steps": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
}


def first_rows(assets: Assets, count: int) -> str:
    return "".join(Path(assets.train).read_text().splitlines(keepends=True)[:count])


def test_44_at_the_total_it_publishes_else_it_is_refused(
    bare: Installation, assets: Assets
) -> None:
    add_real_trainer(bare, assets)
    data = bare.root / "shrinking.jsonl"
    data.write_text(first_rows(assets, 24))
    # A file where the first attempt's result is to be staged: it trains, and cannot finish.
    (bare.outputs / ".staging").mkdir(parents=True, exist_ok=True)
    (bare.outputs / ".staging" / "finished-1").write_text("in the way")

    at_total = submit_real(
        bare, assets, assets.train, "finished", job_id="finished",
        hyperparameters={"max_steps": 4, **SMALL},
    )  # fmt: skip
    shrunk = submit_real(
        bare, assets, data, "shrunk", hyperparameters={"num_train_epochs": 1, **SMALL}
    )
    run = bare.run("a", shrunk)
    child = stop_child_at(run, 4)
    shrunk.pause()
    eventually_sync((run / "stop.json").exists, 30, "the order to stop")
    let_go_on([child])
    eventually_sync(lambda: shrunk.refresh().state == "PAUSED", 60, "paused")
    data.write_text(first_rows(assets, 4))
    shrunk.resume()
    shrunk.wait(timeout=150)
    at_total.wait(timeout=150)

    entries = check_nothing_lost(bare, at_total, attempts=2)
    assert (steps(entries, 1), steps(entries, 2)) == ([1, 2, 3, 4], [])
    assert events(entries, 2).count("NOTHING_LEFT") == 1
    entries = check_nothing_lost(bare, shrunk, "FAILED", attempts=2)
    assert shrunk.failure is not None
    assert shrunk.failure.cause == job_pb2.FAILURE_CAUSE_NOTHING_TO_TRAIN, shrunk.failure
    assert "2" in shrunk.failure.message
    assert steps(entries, 2) == []
