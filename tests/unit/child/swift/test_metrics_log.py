"""Following logging.jsonl while it grows, and what its lines become. The lines are ms-swift's."""

import json
from pathlib import Path
from typing import Any

import pytest
from tunewright.v1.feed_pb2 import EvalMetrics, TrainMetrics

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.swift.metrics_log import GrowingLog, Translation

STEP: dict[str, Any] = {
    "loss": 8.2,
    "grad_norm": 5.38,
    "learning_rate": 6.913e-05,
    "token_acc": 0.25,
    "epoch": 0.75,
    "global_step/max_steps": "6/16",
    "elapsed_time": "1s",
    "remaining_time": "2s",
    "memory(GiB)": 1.5,
    "train_speed(s/it)": 0.2,
}
EVALUATION: dict[str, Any] = {
    "eval_loss": 8.1,
    "eval_runtime": 0.4022,
    "eval_token_acc": 0.5,
    "epoch": 1.0,
    "global_step/max_steps": "8/16",
}
SUMMARY: dict[str, Any] = {
    "last_model_checkpoint": "/scratch/swift/checkpoint-16",
    "best_metric": 8.1,
    "global_step": 16,
    "log_history": [{"loss": 8.2, "step": 1}],
}


def test_a_log_that_does_not_exist_yet_has_no_lines(tmp_path: Path) -> None:
    assert GrowingLog(tmp_path / "logging.jsonl").read() == []


def test_lines_are_read_once_each_and_only_when_they_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "logging.jsonl"
    log = GrowingLog(file)
    data = "".join(json.dumps({"loss": number}) + "\n" for number in range(3)).encode()

    read = []
    for end in range(0, len(data) + 1, 5):
        file.write_bytes(data[:end])
        read += log.read()
    file.write_bytes(data)
    read += log.read()

    assert [entry["loss"] for entry in read] == [0, 1, 2]
    assert log.read() == []


def test_a_line_that_is_no_object_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "logging.jsonl"
    file.write_bytes(b'{"loss": \n[1]\n{"loss": 1}\n')

    assert GrowingLog(file).read() == [{"loss": 1}]


def test_a_step_becomes_train_metrics() -> None:
    entry = Translation().of(STEP, now=0.0)

    assert isinstance(entry, TrainMetrics)
    assert (entry.step, entry.total_steps, entry.epoch) == (6, 16, 0.75)
    assert (entry.loss, entry.grad_norm, entry.token_accuracy) == (8.2, 5.38, 0.25)
    assert entry.eta.ToSeconds() == 2
    assert entry.gpu_memory_bytes_max == 3 << 29
    assert not entry.HasField("tokens")


def test_tokens_are_told_where_they_are_logged() -> None:
    translation = Translation()
    translation.of({**STEP, "num_input_tokens_seen": 1000}, now=10.0)

    entry = translation.of({**STEP, "num_input_tokens_seen": 1500}, now=12.0)

    assert isinstance(entry, TrainMetrics)
    assert entry.tokens == 1500
    assert entry.tokens_per_second == 250.0


def test_an_evaluation_becomes_eval_metrics() -> None:
    translation = Translation()

    entry = translation.of(EVALUATION, now=0.0)

    assert isinstance(entry, EvalMetrics)
    assert (entry.step, entry.loss, entry.token_accuracy) == (8, 8.1, 0.5)
    assert entry.duration.ToMilliseconds() == 402
    assert translation.eval_losses == {8: 8.1}


def test_summaries_become_nothing() -> None:
    translation = Translation()

    assert translation.of(SUMMARY, now=0.0) is None
    assert translation.of({"train_runtime": 4.4, "global_step/max_steps": "16/16"}, 0.0) is None
    assert translation.measured == {}


@pytest.mark.parametrize("name", ["loss", "grad_norm", "eval_loss"])
@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_numbers_that_are_none_end_the_run(name: str, value: str) -> None:
    entry = json.loads(json.dumps(EVALUATION if name == "eval_loss" else STEP))
    entry[name] = json.loads(value)

    with pytest.raises(RunFailed) as caught:
        Translation().of(entry, now=0.0)

    assert caught.value.cause is Cause.DIVERGED
    assert name in str(caught.value)


def test_an_overflow_in_half_precision_is_no_divergence() -> None:
    entry = Translation(overflows=True).of({**STEP, "grad_norm": float("inf")}, now=0.0)

    assert isinstance(entry, TrainMetrics)
    assert not entry.HasField("grad_norm")
