"""Values as people type them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tunewright.cli import values
from tunewright.cli.exits import CommandError

from svckit.spec import data_fields


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24GiB", 24 * 2**30),
        ("24G", 24 * 2**30),
        ("24gb", 24 * 10**9),
        ("1.5 MiB", 1536 * 1024),
        ("1000 B", 1000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert values.size_bytes(text, "--gpu-memory") == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("1.5h", 5400), ("15m", 900), ("2d", 172800)]
)
def test_durations(text: str, expected: float) -> None:
    assert values.seconds(text, "--run-timeout") == expected


@pytest.mark.parametrize("text", ["", "GiB", "24GG", "-1", "1e9"])
def test_what_is_no_size_is_refused_with_the_option_and_an_example(text: str) -> None:
    with pytest.raises(CommandError, match="--gpu-memory: expected a size like 24GiB"):
        values.size_bytes(text, "--gpu-memory")


@pytest.mark.parametrize(("text", "meant"), [("24", "24GiB"), ("1.5", "1.5GiB"), ("0", "0GiB")])
def test_a_size_without_a_unit_is_refused_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(CommandError, match=f"--gpu-memory: {text} needs a unit, as in {meant}"):
        values.size_bytes(text, "--gpu-memory")


@pytest.mark.parametrize("option", ["--set", "--swift", "--label"])
def test_a_name_given_twice_is_refused(option: str) -> None:
    with pytest.raises(CommandError, match=f"{option}: lora_r is given twice"):
        values.pairs(["lora_r=1", "seed=2", " lora_r =1"], option)


@pytest.mark.parametrize(
    ("states", "text", "expected"),
    [
        ([], "priority = 1", "priority = 1"),
        (["running"], "", "state = RUNNING"),
        (["JOB_STATE_FAILED", "Paused"], " ", "state = FAILED OR state = PAUSED"),
        (["held"], "a = 1 OR b = 2", "(state = HELD) AND (a = 1 OR b = 2)"),
    ],
)
def test_states_become_a_filter(states: list[str], text: str, expected: str) -> None:
    assert values.filter_with_states(text, states) == expected


@pytest.mark.parametrize("state", ["", "unspecified", "RUNNING OR 1=1", "x" * 1000])
def test_what_is_no_state_is_refused_with_those_there_are(state: str) -> None:
    with pytest.raises(CommandError, match="--state: expected one of held, queued, ") as caught:
        values.filter_with_states("", [state])
    assert len(str(caught.value)) < 300


def test_settings_take_the_types_of_their_fields() -> None:
    found = values.hyperparameters(
        [
            "learning_rate=1e-4",
            "max_steps=20",
            "packing=no",
            "target_modules=q_proj, v_proj",
            "optim=sgd",
        ]
    )

    assert found == {
        "learning_rate": 1e-4,
        "max_steps": 20,
        "packing": False,
        "target_modules": ["q_proj", "v_proj"],
        "optim": "sgd",
    }


def test_settings_that_are_wrong_stay_text_for_the_sdk_to_tell() -> None:
    found = values.hyperparameters(["lr=1", "max_steps=many", "packing=maybe"])

    assert found == {"lr": "1", "max_steps": "many", "packing": "maybe"}


@pytest.mark.parametrize("text", ["learning_rate", "=3", " = "])
def test_a_setting_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="--set: expected name=value"):
        values.hyperparameters([text])


def test_paths_that_exist_become_absolute_and_a_hub_id_stays(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.touch()
    (tmp_path / "sub").mkdir()
    dotted = f"{tmp_path}/sub/../rows.jsonl"

    assert values.source(str(file)) == str(file)
    assert values.source(f"{file}#500") == f"{file}#500"
    assert values.source(dotted) == str(file)
    assert values.source("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert values.source("owner/rows#500") == "owner/rows#500"
    assert values.source("./missing") == str(Path.cwd() / "missing")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    link = tmp_path / "link.jsonl"
    link.symlink_to("rows.jsonl")

    assert values.source(str(link)) == str(link)


def test_a_hash_that_is_part_of_a_name_stays_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "rows#a.jsonl"
    file.touch()

    assert values.source(str(file)) == str(file)


def test_a_new_output_folder_is_named_after_the_model_and_differs_each_time() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    names = {values.new_output_dir("/models/Qwen 3_0.6B", now) for _ in range(20)}

    assert len(names) == 20
    assert all(name.startswith("qwen-3-0.6b-20260102-030405-") for name in names)
    assert values.new_output_dir("..", now).startswith("job-")


def test_a_data_set_may_say_how_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.touch()
    typed = f"{file}#500,split=test, format=alpaca,instruction=my question,output=a=b"

    assert values.data_source(typed, "--data") == {
        "source": f"{file}#500",
        "split": "test",
        "format": "alpaca",
        "columns": {"instruction": "my question", "output": "a=b"},
    }
    assert values.data_source("owner/rows,split=test", "--data") == {
        "source": "owner/rows",
        "split": "test",
    }
    assert values.data_source(str(file), "--data") == {"source": str(file)}


@pytest.mark.parametrize(
    "name", ["a,b.jsonl", "a,split=x.jsonl", "a;b#c.jsonl", "a#5", "a#b.jsonl", "a,x=y#7"]
)
def test_a_file_of_any_name_can_be_given(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.touch()

    assert values.data_source(str(file), "--data") == {"source": str(file)}
    for limit in ("", "#500"):
        with_more = values.data_source(f"{file}{limit},split=test", "--data")
        assert with_more == {"source": f"{file}{limit}", "split": "test"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "a.jsonl,splt=test",
            "--eval-data: unknown value 'splt' .*did you mean 'split'",
        ),
        ("a.jsonl,colour=red", "--eval-data: unknown value 'colour' of a data set; known: format"),
        ("a.jsonl,split=a,split=b", "--eval-data: 'split' is given twice"),
        ("a.jsonl,output=a,output=b", "--eval-data: 'output' is given twice"),
        ("a.jsonl,split=", "--eval-data: 'split' has no value"),
    ],
)
def test_what_is_wrong_with_a_data_set_names_the_option(text: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        values.data_source(text, "--eval-data")


def test_the_fields_that_can_be_named_are_those_of_the_service() -> None:
    assert set(values._FIELDS) == data_fields.FIELDS
