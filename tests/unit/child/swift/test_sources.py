"""Which data ms-swift gets, from where, and what it would take for something else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_server import HubServer, running_hub
from tests.unit.child.run_folders import RunFolder
from tests.unit.child.swift.conftest import write_rows
from tests.unit.child.swift.swift_runs import SwiftChild, make_swift_folder
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.manifest import prove
from trainer_svc.child.run_spec import read_run_spec
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift.data import CheckedSources, check_sources


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def alpaca(question: str) -> dict[str, str]:
    return {"instruction": question, "output": "a row"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hugging Face hub of the children that this test starts."""
    with running_hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield running


def make_run(
    tmp_path: Path, train: Path | str, python: Path = Path("none"), **more: Any
) -> RunFolder:
    """A run folder of a trainer that may download; `use_hf` is the spec's."""
    swift = {"model_type": "qwen3", "template": "qwen3", "use_hf": more.pop("use_hf", False)}
    spec = {"swift": swift, **more.pop("spec", {})}
    return make_swift_folder(
        tmp_path / "job",
        tmp_path / "model",
        train,
        python,
        document={"allow_hub": True},
        spec=spec,
        **more,
    )


def check(folder: RunFolder, tmp_path: Path) -> CheckedSources:
    """What the child does with the sources before it asks ms-swift."""
    spool = Spool(tmp_path / "spool.jsonl")
    try:
        return check_sources(read_run_spec(folder.path), tmp_path / "cache", spool)
    finally:
        spool.close()


def test_rows_of_the_hugging_face_hub_are_the_first_n_of_the_part_and_counted_one_by_one(
    tmp_path: Path, model: Path, stand_in: Path, hub: HubServer
) -> None:
    assert model.is_dir()
    train = [alpaca("one"), alpaca("one two"), {"instruction": "", "output": ""}]
    train += [alpaca("word " * 50)] * 5
    files = {"train.jsonl": lines(train), "validation.jsonl": lines([alpaca("one two three")])}
    commit = hub.publish("acme/talk", files, kind="datasets")
    folder = make_run(
        tmp_path, "acme/talk#3", stand_in, use_hf=True, evaluation="acme/talk",
        data_format="DATA_FORMAT_ALPACA", spec={"max_dropped_fraction": 0.5},
    )  # fmt: skip

    child = SwiftChild(folder)

    assert child.wait() == 0, child.output
    train_receipt, eval_receipt = folder.entries("data_prepared")
    assert train_receipt["source"] == "acme/talk#3"
    assert (train_receipt["rows_read"], train_receipt["rows_kept"]) == ("3", "2")
    assert train_receipt["tokens"] == str((1 + 1 + 2) + (1 + 2 + 2))
    (dropped,) = train_receipt["dropped"]
    assert dropped["places"] == [f"acme/talk@{commit}:3"]
    assert (eval_receipt["rows_read"], eval_receipt["tokens"]) == ("1", str(1 + 3 + 2))
    argv = prove(folder.staging)["argv"]
    given = [argv[argv.index(flag) + 1] for flag in ("--dataset", "--val_dataset")]
    assert [Path(path).name for path in given] == ["train.swift.jsonl", "eval.swift.jsonl"]


def test_a_later_attempt_reads_the_commit_that_the_first_one_read(
    tmp_path: Path, model: Path, stand_in: Path, hub: HubServer
) -> None:
    assert model.is_dir()
    commit = hub.publish("acme/talk", {"train.jsonl": lines([alpaca("one")])}, kind="datasets")
    first = make_run(tmp_path, "acme/talk", stand_in, use_hf=True)
    SwiftChild(first).wait()
    hub.publish("acme/talk", {"train.jsonl": lines([alpaca("one two")] * 2)}, kind="datasets")

    second = make_run(tmp_path, "acme/talk", stand_in, use_hf=True, attempt=2)
    child = SwiftChild(second)

    assert child.wait() == 0, child.output
    pinned = [one for one in second.entries("event") if one["type"] == "HUB_PINNED"]
    assert [one["details"]["revision"] for one in pinned] == [commit]
    assert second.entries("data_prepared") == first.entries("data_prepared")


def test_a_data_set_on_modelscope_is_not_evaluated_on(tmp_path: Path, train: Path) -> None:
    folder = make_run(tmp_path, train, evaluation="somebody/rows#9")

    with pytest.raises(RunFailed) as caught:
        check(folder, tmp_path)

    assert caught.value.cause is Cause.CONFIG_INVALID
    assert "somebody/rows#9 is in eval_data and would come from ModelScope" in str(caught.value)
    assert "use_hf" in caught.value.hint


def test_modelscopes_data_sets_stand_beside_files_to_train_on(tmp_path: Path, train: Path) -> None:
    folder = make_run(tmp_path, train, more_train=("somebody/rows#9",))

    checked = check(folder, tmp_path)

    assert checked.words("train") == (str(checked.file("train")), "somebody/rows#9")
    assert checked.words("eval") == ()
    assert checked.files["train"].rows == 64


def with_prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": "what is this", "completion": "a row"}] * 2
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(lines(rows))
    return path


@pytest.mark.parametrize("part", ["train", "eval"])
def test_prompts_are_refused_where_everything_would_be_learnt(
    tmp_path: Path, train: Path, part: str
) -> None:
    prompts = with_prompts(tmp_path)
    sources = {"train": prompts} if part == "train" else {"train": train, "evaluation": prompts}
    folder = make_run(tmp_path, **sources, assistant_only_loss=False)  # type: ignore[arg-type]

    with pytest.raises(RunFailed) as caught:
        check(folder, tmp_path)

    assert caught.value.cause is Cause.CONFIG_INVALID
    assert "turns that are not learnt" in str(caught.value)
    assert f"{prompts}:1" in str(caught.value)


def test_prompts_are_taken_where_only_the_assistant_is_learnt(tmp_path: Path) -> None:
    folder = make_run(tmp_path, with_prompts(tmp_path), assistant_only_loss=True)

    checked = check(folder, tmp_path)

    assert checked.files["train"].rows == 2


def test_dialogues_without_prompts_may_be_learnt_whole(tmp_path: Path, train: Path) -> None:
    folder = make_run(tmp_path, train, assistant_only_loss=False)

    checked = check(folder, tmp_path)

    assert checked.files["train"].first_unlearnt == ""


def texts(path: Path) -> Path:
    path.write_bytes(lines([{"text": "the hammer lies here"}] * 2))
    return path


def test_texts_are_not_trained_on_with_dialogues_to_evaluate(tmp_path: Path) -> None:
    dialogues = write_rows(tmp_path / "eval.jsonl", ["what is this"])
    folder = make_run(tmp_path, texts(tmp_path / "texts.jsonl"), evaluation=dialogues)

    with pytest.raises(RunFailed, match="train_data holds plain texts, and eval_data dialogues"):
        check(folder, tmp_path)


@pytest.mark.parametrize("on_modelscope", [False, True])
def test_dialogues_are_not_trained_on_with_texts_to_evaluate(
    tmp_path: Path, train: Path, on_modelscope: bool
) -> None:
    source = "somebody/rows" if on_modelscope else train
    folder = make_run(tmp_path, source, evaluation=texts(tmp_path / "texts.jsonl"))

    with pytest.raises(RunFailed, match="train_data holds dialogues, and eval_data plain texts"):
        check(folder, tmp_path)


def test_texts_are_evaluated_on_where_texts_are_trained_on(tmp_path: Path) -> None:
    evaluation = texts(tmp_path / "eval.jsonl")
    folder = make_run(tmp_path, texts(tmp_path / "texts.jsonl"), evaluation=evaluation)

    checked = check(folder, tmp_path)

    assert checked.text_only is True
    assert checked.files["eval"].rows == 2
