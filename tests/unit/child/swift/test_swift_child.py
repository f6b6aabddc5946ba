"""Whole runs of the ms-swift child, in real processes, with a stand-in for ms-swift."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.eventually import eventually_sync
from tests.unit.child.run_folders import RunFolder
from tests.unit.child.swift.conftest import write_rows
from tests.unit.child.swift.swift_runs import SwiftChild, make_swift_folder
from trainer_svc.child.manifest import digest_of, prove

STEPS = 16


def run(folder: RunFolder, **wrong: Any) -> SwiftChild:
    child = SwiftChild(folder, **wrong)
    child.wait()
    return child


def steps_saved(folder: RunFolder) -> list[int]:
    return [int(entry["step"]) for entry in folder.entries("checkpoint_saved")]


def has_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def trainer_of(child: SwiftChild) -> psutil.Process:
    """The process that trains: below `swift`, which is below the child."""
    below = psutil.Process(child.pid).children(recursive=True)
    (found,) = [one for one in below if any(word.endswith("sft.py") for word in one.cmdline())]
    parent = found.parent()
    assert parent is not None
    assert parent.pid != child.pid
    return found


@pytest.fixture
def whole(tmp_path: Path, model: Path, train: Path, stand_in: Path) -> RunFolder:
    """A run folder with an evaluation, not yet run."""
    evaluation = write_rows(tmp_path / "eval.jsonl", ["what is this"] * 8)
    return make_swift_folder(tmp_path / "job", model, train, stand_in, evaluation=evaluation)


@pytest.fixture
def folder(tmp_path: Path, model: Path, train: Path, stand_in: Path) -> RunFolder:
    """A run folder, not yet run."""
    return make_swift_folder(tmp_path / "job", model, train, stand_in)


@pytest.fixture
def again(tmp_path: Path, model: Path, train: Path, stand_in: Path, folder: RunFolder) -> RunFolder:
    """The second attempt, which resumes."""
    assert folder.path.name == "1"
    return make_swift_folder(tmp_path / "job", model, train, stand_in, attempt=2, resume=True)


def test_a_run_tells_every_step_once_and_completes(whole: RunFolder) -> None:
    child = SwiftChild(whole)

    code = child.wait()

    assert code == 0, child.output
    assert whole.result["outcome"] == "COMPLETED"
    metrics = whole.entries("train_metrics")
    assert [int(entry["step"]) for entry in metrics] == list(range(1, STEPS + 1))
    assert {entry["total_steps"] for entry in metrics} == {str(STEPS)}
    assert [entry["step"] for entry in whole.entries("eval_metrics")] == ["8", "16"]
    assert whole.event_types() == [
        "DATA_PREPARING",
        "DATA_PREPARING",
        "SWIFT_STARTED",
        "MODEL_LOADING",
        "MODEL_LOADED",
        "TRAINING_STARTED",
        "ENDED",
    ]


def test_checkpoints_are_taken_in_whole_and_without_pickles_that_nothing_reads(
    whole: RunFolder,
) -> None:
    run(whole, save_seconds=0.2)

    saved = whole.entries("checkpoint_saved")
    assert [int(entry["step"]) for entry in saved] == [6, 12, 16]
    assert [entry.get("eval_loss") for entry in saved] == [None, None, 9.0 / 16]
    names = sorted(path.name for path in whole.checkpoints.iterdir())
    assert names == ["00000012", "00000016"]
    for path in whole.checkpoints.iterdir():
        files = prove(path)["files"]
        assert {"adapter_model.safetensors", "optimizer.pt", "trainer_state.json"} <= set(files)
        assert "training_args.bin" not in files


def test_the_result_has_the_tokenizer_and_says_what_was_run(whole: RunFolder) -> None:
    run(whole)

    manifest = prove(whole.staging)

    data = (whole.staging / "manifest.json").read_bytes()
    assert whole.result["manifest_digest"] == digest_of(data)
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(
        manifest["files"]
    )
    assert manifest["argv"][:2] == ["swift", "sft"]
    assert "torch" in manifest["library_versions"]
    assert manifest["data"] == whole.entries("data_prepared")
    assert manifest["metrics"]["best_step"] == STEPS
    assert manifest["metrics"]["train_loss"] == 8.0 / STEPS
    assert list(whole.cache.iterdir()) == []


def test_rows_that_training_could_not_use_are_taken_out_and_counted(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    questions = ["what is this"] * 60 + ["word " * 40, "word " * 12, "UNTAKEABLE"]
    train = write_rows(tmp_path / "train.jsonl", questions, answer="a long answer of words")
    folder = make_swift_folder(
        tmp_path / "job", model, train, stand_in, max_length=16, spec={"strict": False}
    )

    child = run(folder)

    assert folder.result["outcome"] == "COMPLETED", child.output
    (receipt,) = folder.entries("data_prepared")
    assert (receipt["rows_read"], receipt["rows_kept"]) == ("63", "61")
    assert receipt["rows_truncated"] == "1"
    assert receipt["supervised_tokens"] == str(60 * 5 + 3)
    assert receipt["tokens"] == str(60 * 9 + 16)
    assert receipt["dropped"] == [
        {"reason": "too_long", "count": "1", "places": [f"{train}:61"]},
        {"reason": "refused_by_swift", "count": "1", "places": [f"{train}:63"]},
    ]
    assert int(folder.entries("train_metrics")[0]["total_steps"]) == 16


def test_a_text_that_names_a_file_for_ms_swift_to_open_is_refused(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    texts = ["fine", "<img>/etc/elsewhere.png</img> what is it", "an <img> alone"]
    train = write_rows(tmp_path / "train.jsonl", texts)
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in)

    run(folder)

    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_DATASET_INVALID"
    assert failure["message"].startswith(f"{train}:2: ")
    assert "give pictures in images" in failure["message"]
    assert "SWIFT_STARTED" not in folder.event_types()


@pytest.mark.parametrize("strict", [True, None])
def test_a_job_that_is_not_said_to_be_lenient_fails_at_the_row_that_the_template_does_not_take(
    tmp_path: Path, model: Path, stand_in: Path, strict: bool | None
) -> None:
    train = write_rows(tmp_path / "train.jsonl", ["fine", "UNTAKEABLE", "fine"])
    spec = {"strict": strict, "max_dropped_fraction": 1.0}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, spec=spec)

    run(folder)

    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_DATASET_INVALID"
    assert failure["message"].startswith(f"{train}:2: ")
    assert "this template takes no such text" in failure["message"]
    assert "SWIFT_STARTED" not in folder.event_types()


def test_too_many_rows_left_out_fail_the_run_before_training(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    train = write_rows(tmp_path / "train.jsonl", ["short"] * 8 + ["word " * 90] * 2)
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, max_length=16)

    run(folder)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_DATASET_INVALID"
    assert "max_dropped_fraction = 0.1" in folder.result["failure"]["message"]
    assert folder.entries("data_prepared")[0]["dropped"][0]["count"] == "2"
    assert "SWIFT_STARTED" not in folder.event_types()


def test_a_model_with_code_is_refused_before_anything_loads_it(
    tmp_path: Path, model: Path, train: Path, stand_in: Path
) -> None:
    (model / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.My"}}))
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in)

    child = run(folder)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"
    assert "auto_map in config.json" in folder.result["failure"]["message"]
    assert "run sh:" not in child.output


def test_a_trusted_model_with_code_is_let_through(
    tmp_path: Path, model: Path, train: Path, stand_in: Path
) -> None:
    (model / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.My"}}))
    trusted = {"trust_remote_code": True}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, document=trusted)

    run(folder)

    assert folder.result["outcome"] == "COMPLETED"


def test_a_cancelled_run_leaves_no_process_behind_not_even_in_another_session(
    folder: RunFolder, tmp_path: Path
) -> None:
    child = SwiftChild(folder, step_seconds=0.2, daemon=str(tmp_path / "pid"))
    child.until_step(2)
    below = psutil.Process(child.pid).children(recursive=True)
    daemon = int((tmp_path / "pid").read_text())
    assert daemon in {process.pid for process in below}

    child.stop("CANCEL")
    code = child.wait()

    assert code == 0
    assert folder.result["outcome"] == "STOPPED"
    assert all(has_gone(process.pid) for process in below)
    assert has_gone(daemon)
    assert list(folder.cache.iterdir()) == []


@pytest.mark.parametrize("mode", ["PAUSE", "TIMEOUT"])
def test_a_paused_run_saves_the_step_that_it_has_reached(folder: RunFolder, mode: str) -> None:
    child = SwiftChild(folder, step_seconds=0.2)
    child.until_step(2)

    child.stop(mode)
    code = child.wait()

    assert code == 0, child.output
    assert folder.result["outcome"] == "STOPPED"
    (saved,) = steps_saved(folder)
    assert 2 <= saved < STEPS
    assert folder.result["step"] == saved
    prove(folder.checkpoints / f"{saved:08}")


def test_a_pause_before_the_first_step_ends_at_once(folder: RunFolder) -> None:
    child = SwiftChild(folder, load_seconds=30.0)
    child.until_event("MODEL_LOADING")

    child.stop("PAUSE")
    child.wait()

    assert folder.result["outcome"] == "STOPPED"
    assert folder.result["step"] == 0
    assert steps_saved(folder) == []


def test_a_pause_ends_what_would_not_listen(folder: RunFolder) -> None:
    child = SwiftChild(folder, step_seconds=0.2, deaf=True)
    child.until_step(1)

    child.stop("PAUSE")
    child.wait()

    assert folder.result["outcome"] == "STOPPED"
    assert steps_saved(folder) == []


def test_a_trainer_that_dies_while_it_is_to_pause_has_not_paused(folder: RunFolder) -> None:
    child = SwiftChild(folder, step_seconds=0.2, dies_when_asked=True)
    child.until_step(1)

    child.stop("PAUSE")
    code = child.wait()

    assert code == 128 + signal.SIGKILL
    assert not (folder.path / "result.json").exists()


def test_a_library_that_is_missing_is_no_fault_of_a_row(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    train = write_rows(tmp_path / "train.jsonl", ["fine"] * 9 + ["LIBRARY"])
    lenient = {"strict": False}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, spec=lenient)

    child = run(folder)

    assert child.wait() == 1
    assert "ImportError: No module named 'torchvision'" in child.output
    assert not (folder.path / "result.json").exists()


def test_rows_whose_template_asks_the_model_are_trained_on_unseen(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    train = write_rows(tmp_path / "train.jsonl", ["fine"] * 63 + ["MODEL"])
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in)

    child = run(folder)

    assert child.wait() == 0, child.output
    assert "ROWS_NOT_LOOKED_AT" in folder.event_types()
    (receipt,) = folder.entries("data_prepared")
    assert receipt["rows_kept"] == "64"
    assert "tokens" not in receipt


def test_a_resumed_run_goes_on_where_the_first_one_paused(
    folder: RunFolder, again: RunFolder
) -> None:
    child = SwiftChild(folder, step_seconds=0.2)
    child.until_step(3)
    child.stop("PAUSE")
    child.wait()
    (paused_at,) = steps_saved(folder)

    run(again)

    assert "RESUMED" in again.event_types()
    assert list(again.losses()) == list(range(paused_at + 1, STEPS + 1))
    assert again.result["outcome"] == "COMPLETED"


def test_a_killed_trainer_leaves_its_end_to_be_judged_from_outside(folder: RunFolder) -> None:
    child = SwiftChild(folder, step_seconds=0.1)
    child.until_step(7)
    eventually_sync(lambda: steps_saved(folder) == [6])

    os.kill(trainer_of(child).pid, signal.SIGKILL)
    code = child.wait()

    assert code == 128 + signal.SIGKILL
    assert not (folder.path / "result.json").exists()
    assert folder.entries("event")[-1]["type"] == "SWIFT_ENDED"
    assert [path.name for path in folder.checkpoints.iterdir()] == ["00000006"]


def test_a_killed_run_is_resumed_from_its_last_whole_checkpoint(
    folder: RunFolder, again: RunFolder
) -> None:
    first = run(folder, dies_saving=12)

    run(again)

    assert first.wait() == 128 + signal.SIGKILL
    assert steps_saved(folder) == [6]
    assert list(again.losses()) == list(range(7, STEPS + 1))
    assert again.result["outcome"] == "COMPLETED"


def test_a_failing_trainer_passes_on_its_code_and_its_words(folder: RunFolder) -> None:
    words = "Traceback (most recent call last):\nValueError: remaining_argv: ['--nonsense']\n"

    child = run(folder, fails=words)

    assert child.wait() == 1
    assert not (folder.path / "result.json").exists()
    assert words in child.output


def test_a_failing_look_at_the_rows_passes_on_its_words_too(
    tmp_path: Path, model: Path, train: Path, stand_in: Path
) -> None:
    spec = {"swift": {"model_type": "no_such_type"}}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, spec=spec)

    child = run(folder)

    assert child.wait() == 1
    assert not (folder.path / "result.json").exists()
    assert "ValueError: model_type: 'no_such_type' not in ['qwen3']" in child.output


def test_a_run_that_trains_nothing_is_no_success(folder: RunFolder) -> None:
    run(folder, trains_nothing=True)

    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_NOTHING_TO_TRAIN"
    assert "at step 0 of 16, before it trained a step" in failure["message"]


def test_a_run_resumed_at_its_last_step_is_published_without_training(
    folder: RunFolder, again: RunFolder
) -> None:
    run(folder)

    run(again)

    assert again.result["outcome"] == "COMPLETED"
    assert "NOTHING_LEFT" in again.event_types()
    assert "SWIFT_STARTED" not in again.event_types()
    assert (again.staging / "adapter_model.safetensors").exists()


def test_a_loss_that_is_no_number_ends_the_run(folder: RunFolder) -> None:
    child = run(folder, diverges_at=8, step_seconds=0.1)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_DIVERGED"
    assert "at step 8: loss = nan" in folder.result["failure"]["message"]
    assert steps_saved(folder) == [6]
    assert child.wait() == 1


def test_a_checkpoint_with_a_weight_that_is_no_number_is_not_kept(folder: RunFolder) -> None:
    run(folder, weights_break_at=12)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_DIVERGED"
    assert "lora_A.weight is NaN" in folder.result["failure"]["message"]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["00000006"]


def on_a_hub(
    tmp_path: Path, model: Path | str, train: Path | str, python: Path, trusted: bool = False
) -> RunFolder:
    """A run folder of a trainer that may download."""
    allowed = {"allow_hub": True, "trust_remote_code": trusted}
    return make_swift_folder(tmp_path / "job", model, train, python, document=allowed)


def test_a_data_set_on_modelscope_goes_to_ms_swift_by_its_name_and_is_counted(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    folder = on_a_hub(tmp_path, model, "somebody/rows", stand_in)

    child = run(folder)

    assert folder.result["outcome"] == "COMPLETED", child.output
    argv = prove(folder.staging)["argv"]
    assert argv[argv.index("--dataset") + 1] == "somebody/rows"
    (receipt,) = folder.entries("data_prepared")
    assert receipt["source"] == "somebody/rows"
    assert (receipt["rows_read"], receipt["rows_kept"]) == ("8", "8")
    assert (receipt["tokens"], receipt["supervised_tokens"]) == ("48", "16")


@pytest.mark.parametrize("strict", [False, True])
def test_preferences_on_modelscope_are_refused_strict_or_not(
    tmp_path: Path, model: Path, stand_in: Path, strict: bool
) -> None:
    folder = make_swift_folder(
        tmp_path / "job",
        model,
        "somebody/preferences",
        stand_in,
        document={"allow_hub": True},
        spec={"strict": strict, "max_dropped_fraction": 0.5},
    )

    run(folder)

    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_DATASET_INVALID"
    assert "somebody/preferences:row 8: this is preference data" in failure["message"]
    assert "SWIFT_STARTED" not in folder.event_types()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_data_set_that_brings_code_ends_the_run_whether_or_not_the_model_may(
    tmp_path: Path, model: Path, stand_in: Path, trusted: bool
) -> None:
    folder = on_a_hub(tmp_path, model, "somebody/code", stand_in, trusted)

    child = run(folder)

    assert child.wait() == 1
    assert "requires executing the dataset script" in child.output
    assert not (folder.path / "canary").exists()
    assert "SWIFT_STARTED" not in folder.event_types()


def test_a_model_on_modelscope_is_downloaded_looked_at_and_pinned(
    tmp_path: Path, train: Path, stand_in: Path
) -> None:
    folder = on_a_hub(tmp_path, "somebody/model", train, stand_in)

    child = run(folder)

    assert folder.result["outcome"] == "COMPLETED", child.output
    assert folder.event_types()[:2] == ["MODEL_DOWNLOADING", "HUB_PINNED"]
    base = prove(folder.staging)["base_model"]
    assert (base["name"], base["revision"]) == ("somebody/model", "master")
    assert base["path"].endswith("somebody--model@master")


def test_a_model_on_modelscope_that_brings_code_is_refused(
    tmp_path: Path, train: Path, stand_in: Path
) -> None:
    folder = on_a_hub(tmp_path, "somebody/with-code", train, stand_in)

    run(folder)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"
    assert "modeling.py" in folder.result["failure"]["message"]


def test_a_trainer_without_ms_swift_says_so(tmp_path: Path, model: Path, train: Path) -> None:
    none = {"swift": None}
    folder = make_swift_folder(tmp_path / "job", model, train, tmp_path, document=none)

    run(folder)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_ENVIRONMENT_INVALID"


def test_a_reader_of_rows_that_the_system_kills_ends_the_run_as_killed(
    tmp_path: Path, model: Path, stand_in: Path
) -> None:
    train = write_rows(tmp_path / "many.jsonl", ["what is this"] * 999 + ["MEMORY"])
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in)

    child = SwiftChild(folder)

    assert child.wait() == 137
    assert "SWIFT_STARTED" not in folder.event_types()


def test_a_model_without_pictures_is_refused_for_a_job_that_has_them(
    tmp_path: Path, model: Path, train: Path, stand_in: Path
) -> None:
    spec = {"model_kind": "MODEL_KIND_VLM"}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, spec=spec)

    run(folder)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_MODEL_INVALID"
    assert "model_kind is vlm" in folder.result["failure"]["message"]
    assert "SWIFT_STARTED" not in folder.event_types()


def test_a_model_that_reads_pictures_is_let_through(
    tmp_path: Path, model: Path, train: Path, stand_in: Path
) -> None:
    swift = {"model_type": "qwen2_5_vl", "template": "qwen2_5_vl"}
    spec = {"model_kind": "MODEL_KIND_VLM", "swift": swift}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, spec=spec)

    run(folder)

    assert folder.result["outcome"] == "COMPLETED"


def test_packing_pictures_is_refused_before_anything_starts(
    tmp_path: Path, model: Path, train: Path, stand_in: Path
) -> None:
    spec = {"model_kind": "MODEL_KIND_VLM"}
    folder = make_swift_folder(tmp_path / "job", model, train, stand_in, spec=spec, packing=True)

    run(folder)

    assert folder.result["failure"]["cause"] == "FAILURE_CAUSE_CONFIG_INVALID"
    assert folder.event_types() == ["FAILED"]
