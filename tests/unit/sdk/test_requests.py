"""Arguments of the SDK as requests, and what cannot be put into one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tunewright import requests
from tunewright.errors import InvalidRequest, Violation
from tunewright.requests import create_job
from tunewright.v1 import spec_pb2
from tunewright.wire.meant import did_you_mean

MINIMAL = {"model": "m", "train_data": "/d", "output_dir": "o"}


def spec_of(**arguments: Any) -> spec_pb2.JobSpec:
    return create_job({**MINIMAL, **arguments}, "id").job.spec


def violations_of(**arguments: Any) -> tuple[Violation, ...]:
    with pytest.raises(InvalidRequest) as caught:
        create_job({**MINIMAL, **arguments}, "id")
    return caught.value.violations


def test_every_argument_finds_its_field() -> None:
    spec = spec_of(
        train_data=[
            "/d#5",
            {"source": "e", "split": "dev", "columns": {"output": "answer"}},
            spec_pb2.DataSource(source="f"),
        ],
        eval_data="/v",
        format="lccc",
        hyperparameters={"learning_rate": 1e-4, "target_modules": ["q_proj"], "packing": False},
        accelerator="gpu",
        gpu_count=2,
        gpu_ids=[0, "1"],
        gpu_memory_bytes_min=2**34,
        trainer="host-a",
        backend="swift",
        model_revision="v1",
        system_prompt="Be kind.",
        run_timeout=timedelta(hours=1),
        attempts_max=2,
        retry_backoff=0.5,
        model_kind="vlm",
        swift={"model_type": "llava1_5_hf", "use_hf": False, "max_pixels": 200_704},
        strict=False,
        max_dropped_fraction=0.25,
    )

    assert [data.source for data in spec.train_data] == ["/d#5", "e", "f"]
    assert {data.format for data in spec.train_data} == {spec_pb2.DATA_FORMAT_LCCC}
    assert spec.train_data[1].split == "dev"
    assert dict(spec.train_data[1].columns) == {"output": "answer"}
    assert spec.eval_data[0].source == "/v"
    assert (spec.hyperparameters.learning_rate, spec.hyperparameters.packing) == (1e-4, False)
    assert list(spec.hyperparameters.target_modules) == ["q_proj"]
    assert spec.resources.accelerator == spec_pb2.ACCELERATOR_GPU
    assert (spec.resources.gpu_count, list(spec.resources.gpu_ids)) == (2, ["0", "1"])
    assert spec.resources.gpu_memory_bytes_min == 2**34
    assert spec.resources.trainer == "trainers/host-a"
    assert spec.backend == spec_pb2.BACKEND_SWIFT
    assert (spec.model.name, spec.model.revision) == ("m", "v1")
    assert spec.system_prompt == "Be kind."
    assert spec.run_timeout.seconds == 3600
    assert spec.retry_policy.attempts_max == 2
    assert spec.retry_policy.backoff.nanos == 500_000_000
    assert spec.model_kind == spec_pb2.MODEL_KIND_VLM
    assert (spec.swift.model_type, spec.swift.max_pixels) == ("llava1_5_hf", 200_704)
    assert spec.swift.HasField("use_hf")
    assert (spec.HasField("strict"), spec.strict) == (True, False)
    assert spec.max_dropped_fraction == 0.25


def test_what_is_not_given_is_left_to_the_service() -> None:
    spec = spec_of()

    assert not spec.HasField("hyperparameters")
    assert not spec.HasField("resources")
    assert not spec.HasField("retry_policy")
    assert not spec.HasField("run_timeout")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("llm-swift", "recipes/llm-swift"),
        ("llm-swift@2", "recipes/llm-swift@2"),
        ("recipes/llm-swift", "recipes/llm-swift"),
    ],
)
def test_a_recipe_goes_by_its_name_and_only_what_is_given_goes_along(given: str, sent: str) -> None:
    request = create_job({"recipe": given, "gpu_ids": [0], "output_dir": "o"}, "id")

    assert request.job.recipe == sent
    assert request.job.spec == spec_pb2.JobSpec(
        output_dir="o", resources=spec_pb2.Resources(gpu_ids=["0"])
    )


def test_a_recipe_alone_sends_no_spec() -> None:
    request = create_job({"recipe": "r"}, "id")

    assert not request.job.HasField("spec")


def test_a_recipe_that_is_no_text_is_refused() -> None:
    assert violations_of(recipe=3) == (Violation("job.recipe", "expected text, got 3"),)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"system_prompt": ""}, "system_prompt"),
        ({"output_dir": ""}, "output_dir"),
        ({"eval_data": []}, "eval_data"),
        ({"eval_data": {"source": "/v", "split": ""}}, "eval_data[0].split"),
        ({"train_data": ["/d", {"source": "/d", "split": ""}]}, "train_data[1].split"),
        ({"swift": {"model_type": ""}}, "swift.model_type"),
        ({"hyperparameters": {"target_modules": ()}}, "hyperparameters.target_modules"),
        ({"model": ""}, "model.name"),
        ({"model_revision": ""}, "model.revision"),
        ({"gpu_count": 0}, "resources.gpu_count"),
        ({"gpu_ids": []}, "resources.gpu_ids"),
        ({"trainer": ""}, "resources.trainer"),
        ({"attempts_max": 0}, "retry_policy.attempts_max"),
    ],
)
def test_an_empty_value_that_would_be_lost_is_refused_with_a_recipe(
    given: dict[str, Any], path: str
) -> None:
    told = "cannot be made empty; with a recipe, an empty value or 0 is the same as none"

    assert violations_of(recipe="r", **given) == (Violation(f"job.spec.{path}", told),)


def test_an_empty_value_that_a_proto_can_hold_goes_to_a_recipe() -> None:
    hyperparameters = {"lora_dropout": 0, "packing": False, "lr_scheduler_type": ""}

    spec = spec_of(
        recipe="r", strict=False, max_dropped_fraction=0, hyperparameters=hyperparameters
    )

    assert (spec.HasField("strict"), spec.HasField("max_dropped_fraction")) == (True, True)
    assert [one.name for one, _ in spec.hyperparameters.ListFields()] == [
        "lr_scheduler_type", "packing", "lora_dropout",
    ]  # fmt: skip


def test_an_empty_value_without_a_recipe_means_the_default() -> None:
    assert spec_of(system_prompt="", eval_data=[]) == spec_of()


def test_a_format_needs_data_that_it_is_the_format_of() -> None:
    with pytest.raises(InvalidRequest) as caught:
        create_job({"recipe": "r", "format": "lccc", "output_dir": "o"}, "id")

    assert caught.value.violations == (Violation("format", "needs train_data or eval_data"),)


def test_nothing_is_judged_that_a_proto_can_hold() -> None:
    request = create_job({"hyperparameters": {"learning_rate": -1}, "priority": 10**6}, "id")

    assert request.job.spec.hyperparameters.learning_rate == -1
    assert request.request_id == "id"


def test_a_path_object_is_made_absolute_and_text_is_not() -> None:
    spec = spec_of(model="some/model", train_data=Path("rows.jsonl"))

    assert spec.model.name == "some/model"
    assert spec.train_data[0].source == str(Path.cwd() / "rows.jsonl")


def test_a_whole_spec_goes_as_it_is() -> None:
    spec = spec_pb2.JobSpec(output_dir="o")

    assert create_job({"spec": spec, "priority": 3}, "id").job.spec == spec


def test_arguments_of_the_spec_do_not_go_with_a_whole_spec() -> None:
    with pytest.raises(InvalidRequest) as caught:
        create_job({"spec": spec_pb2.JobSpec(), "model": "m", "gpu_ids": ["0"]}, "id")

    assert [one.field for one in caught.value.violations] == ["gpu_ids", "model"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("lr", "learning_rate"),
        ("epochs", "num_train_epochs"),
        ("batch_size", "per_device_train_batch_size"),
        ("learning-rate", "learning_rate"),
        ("rank", "lora_r"),
    ],
)
def test_an_unknown_hyperparameter_is_named_with_the_one_that_was_meant(
    name: str, meant: str
) -> None:
    [violation] = violations_of(hyperparameters={name: 1})

    assert violation.field == f"job.spec.hyperparameters.{name}"
    assert violation.description == f"no such field; did you mean {meant!r}?"


def test_an_unknown_name_that_is_near_nothing_is_just_unknown() -> None:
    assert did_you_mean("xyzzy", ["learning_rate"]) is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "fast", "expected a number, got 'fast'"),
        ("learning_rate", True, "expected a number, got True"),
        ("max_steps", 2.5, "expected a whole number, got 2.5"),
        ("max_steps", True, "expected a whole number, got True"),
        ("lora_r", 2**40, f"expected a whole number, got {2**40}"),
        ("packing", "yes", "expected true or false, got 'yes'"),
        ("optim", 3, "expected text, got 3"),
        ("target_modules", {"a": 1}, "expected a list of texts, got {'a': 1}"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, value: object, expected: str) -> None:
    [violation] = violations_of(hyperparameters={name: value})

    assert violation == Violation(f"job.spec.hyperparameters.{name}", expected)


def test_a_whole_float_is_a_whole_number() -> None:
    assert spec_of(hyperparameters={"max_steps": 20.0}).hyperparameters.max_steps == 20


def test_every_bad_field_is_named_at_once() -> None:
    violations = violations_of(
        hyperparameters={"lr": 1, "packing": 3},
        accelerator="tpu",
        run_timeout="soon",
        labels={"a": 1},
        train_data=[5],
        modle="m",
        learning_rate=1,
    )

    assert {one.field for one in violations} == {
        "modle",
        "learning_rate",
        "job.labels",
        "job.spec.hyperparameters.lr",
        "job.spec.hyperparameters.packing",
        "job.spec.resources.accelerator",
        "job.spec.run_timeout",
        "job.spec.train_data[0]",
    }


def test_a_hyperparameter_beside_the_others_is_told_where_it_goes() -> None:
    [violation] = violations_of(learning_rate=1)

    assert "hyperparameters={'learning_rate': ...}" in violation.description


def test_the_choices_of_an_enum_are_told() -> None:
    [violation] = violations_of(accelerator="tpu")

    assert violation.description == "expected 'gpu' or 'cpu', got 'tpu'"


def test_an_invalid_request_reads_as_one_line_for_a_person() -> None:
    with pytest.raises(InvalidRequest) as caught:
        create_job({"hyperparameters": {"lr": 1}}, "id")

    assert str(caught.value) == (
        "job.spec.hyperparameters.lr: no such field; did you mean 'learning_rate'?"
    )
    assert (caught.value.reason, caught.value.code) == ("INVALID_REQUEST", "INVALID_ARGUMENT")


def test_ids_become_names_and_names_stay() -> None:
    assert requests.job_name("a") == requests.job_name("jobs/a") == "jobs/a"
    assert requests.trainer_name("a") == requests.trainer_name("trainers/a") == "trainers/a"


def test_two_request_ids_differ() -> None:
    assert requests.new_request_id() != requests.new_request_id()
