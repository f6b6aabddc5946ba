"""The table of hyperparameters: generated, complete, and true to the server's rules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tunewright.cli.app import run
from tunewright.hyperparameters import Hyperparameter, hyperparameters
from tunewright.v1 import spec_pb2
from tunewright.wire.meant import HABITS, did_you_mean

from svckit.spec.invalid import InvalidSpec
from svckit.spec.model import Hyperparameters, JobSpec

ROOT = Path(__file__).resolve().parents[3]
ALL = list(hyperparameters().values())
FIELDS = spec_pb2.Hyperparameters.DESCRIPTOR.fields_by_name


def spec(**values: object) -> JobSpec:
    """A job with these hyperparameters. Raises InvalidSpec."""
    return JobSpec.from_mapping(
        {
            "model": {"name": "/m"},
            "train_data": [{"source": "/d.jsonl"}],
            "output_dir": "o",
            "hyperparameters": values,
        }
    )


def test_the_table_is_what_the_generator_makes() -> None:
    script = ROOT / "scripts" / "generate_hyperparameters.py"

    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, timeout=60, cwd=ROOT
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_every_hyperparameter_of_the_contract_has_a_row_in_its_order() -> None:
    assert [one.name for one in ALL] == list(FIELDS)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_row_has_words_for_everything(one: Hyperparameter) -> None:
    assert re.fullmatch(r"\S.*[^.\s]", one.description)
    assert one.default_text
    assert "qlora" in one.backends
    assert "BACKEND" not in one.default_text
    assert "Default" not in one.description


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_the_bounds_are_those_that_the_server_holds_to(one: Hyperparameter) -> None:
    record = one.record
    step = 1 if record["type"] == "integer" else 1e-6
    inside = [record[key] for key in ("minimum", "maximum") if key in record]
    outside = [record[key] for key in ("above", "below") if key in record]
    outside += [record["minimum"] - step] if "minimum" in record else []
    outside += [record["maximum"] + step] if "maximum" in record else []

    for value in [*inside, *record.get("choices", ())]:
        assert getattr(spec(**{one.name: value}).hyperparameters, one.name) == value
    for value in outside:
        with pytest.raises(InvalidSpec, match=one.name):
            spec(**{one.name: value})


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_the_default_is_the_servers(one: Hyperparameter) -> None:
    default = Hyperparameters.model_fields[one.name].default

    assert one.record["default"] == (list(default) if isinstance(default, tuple) else default)


def test_the_contract_states_the_same_defaults_and_ranges() -> None:
    """Comments of spec.proto that name a plain default, or a range of numbers."""
    text = (ROOT / "protos/tunewright/v1/spec.proto").read_text(encoding="utf-8")
    body = text.partition("message Hyperparameters {")[2].partition("\n}\n")[0]
    stated = 0
    for comment, name in re.findall(r"((?:  // .*\n)+)  (?:optional|repeated) \w+ (\w+) =", body):
        words = " ".join(comment.replace("//", "").split())
        record = hyperparameters()[name].record
        if plain := re.search(r"Default (\S+?)\.?$", words):
            assert json.loads(plain[1]) == record["default"], name
            stated += 1
        if bounded := re.search(r", (\d+) to (\d+)", words):
            assert [int(bounded[1]), int(bounded[2])] == [record["minimum"], record["maximum"]]
            stated += 1
    assert stated > 25


def test_the_training_child_reads_each_of_them() -> None:
    """What the row says of the qlora backend."""
    child = ROOT / "trainer_svc" / "child"
    source = "\n".join(file.read_text(encoding="utf-8") for file in child.glob("*.py"))

    unread = [one.name for one in ALL if not re.search(rf"\b{one.name}\b", source)]

    assert unread == []


def test_every_habit_leads_to_a_hyperparameter() -> None:
    wrong = {habit: name for habit, name in HABITS.items() if name not in FIELDS}

    assert wrong == {}
    assert not HABITS.keys() & FIELDS.keys()


@pytest.mark.parametrize(
    ("habit", "meant"),
    [
        ("cutoff_len", "max_length"),
        ("lora_target", "target_modules"),
        ("num_epochs", "num_train_epochs"),
        ("grad_accum", "gradient_accumulation_steps"),
        ("micro_batch_size", "per_device_train_batch_size"),
        ("max-seq-length", "max_length"),
        ("learning_rat", "learning_rate"),
        ("zzz", None),
    ],
)
def test_names_of_other_tools_lead_to_ours(habit: str, meant: str | None) -> None:
    assert did_you_mean(habit, FIELDS) == meant


def test_a_recipe_file_gets_the_same_suggestion() -> None:
    with pytest.raises(InvalidSpec, match="did you mean 'max_length'"):
        spec(cutoff_len=1024)


def test_the_command_lists_all_shows_one_and_suggests(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hyperparameters"]) == 0
    listed = capsys.readouterr().out
    assert run(["hyperparameters", "learning_rate"]) == 0
    page = capsys.readouterr().out
    assert run(["hyperparameters", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert run(["hyperparameters", "cutoff_len"]) == 2
    refusal = capsys.readouterr().err

    assert "learning_rate  number, above 0, at most 10; default: 0.0002; qlora, swift\n" in listed
    assert "default      0.0002\n" in page
    assert [record["name"] for record in records] == list(FIELDS)
    assert refusal == ("error: no such hyperparameter: 'cutoff_len'; did you mean 'max_length'?\n")
