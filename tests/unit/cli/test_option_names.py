"""Fields as options: a table that is complete, and refusals in the words of who typed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import typer
from google.protobuf.descriptor import Descriptor
from tunewright.cli import data, new_job
from tunewright.cli.exits import error_lines, error_record
from tunewright.cli.option_names import OPTIONS, in_options, option_of
from tunewright.errors import Violation, invalid_request
from tunewright.requests import JobArguments
from tunewright.v1 import data_service_pb2, job_service_pb2

# Options that set no field: where the spec is, what to do with the answer, whom to ask.
WITHOUT_FIELD = {"--file", "--watch", "--json", "--address"}


def typed_options(function: Callable[..., object]) -> set[str]:
    """The long options of a command."""
    command = typer.Typer(add_completion=False)
    command.command()(function)
    parameters = typer.main.get_command(command).params
    return {
        name
        for one in parameters
        for name in one.opts
        if name.startswith("--") and name != "--help"
    }


def exists(path: str, kind: Descriptor) -> bool:
    """Whether a path of the table leads to a field of the contract."""
    head, _, rest = path.partition(".")
    field = kind.fields_by_name.get(head.removesuffix("[]"))
    if field is None:
        return False
    return not rest or (field.message_type is not None and exists(rest, field.message_type))


def test_every_option_that_sets_a_field_is_in_the_table() -> None:
    typed = typed_options(new_job.create) | typed_options(data.check)

    assert typed - WITHOUT_FIELD == set(OPTIONS.values())


def test_every_row_is_a_field_of_the_contract_or_an_argument_of_the_sdk() -> None:
    create = job_service_pb2.CreateJobRequest.DESCRIPTOR
    check = data_service_pb2.CheckDataRequest.DESCRIPTOR

    wrong = [
        path
        for path in OPTIONS
        if not any(exists(path.removesuffix("."), kind) for kind in (create, check))
        and path not in JobArguments.__annotations__
    ]

    assert wrong == []


def test_every_argument_that_the_command_gives_the_sdk_leads_to_an_option() -> None:
    source = inspect.getsource(new_job)
    given = set(re.findall(r"^        (\w+)=", source, re.MULTILINE)) & set(
        JobArguments.__annotations__
    )

    assert len(given) > 15
    assert {name for name in given if not option_of(name)} == {"spec"}


@pytest.mark.parametrize(
    ("field", "description", "line"),
    [
        ("job.spec.train_data", "is required", "--data: is required"),
        ("job.spec.train_data[0].source", "is odd", "--data: is odd"),
        ("job.spec.train_data[1].source", "is odd", "--data (number 2): is odd"),
        ("job.spec.train_data[2].format", "is odd", "--format (number 3): is odd"),
        ("job.spec.eval_data[0].split", "is odd", "--eval-data: is odd"),
        ("job.spec.model.name", "is required", "--model: is required"),
        (
            "job.spec.hyperparameters.lora_r",
            "must be at least 1; got 0",
            "--set lora_r=...: must be at least 1; got 0",
        ),
        (
            "job.spec.hyperparameters.target_modules[1]",
            "is odd",
            "--set target_modules=...: is odd",
        ),
        ("job.spec.swift.template", "is odd", "--swift template=...: is odd"),
        (
            "job.spec.swift",
            "is only for the swift backend",
            "--swift: is only for the swift backend",
        ),
        (
            "job.spec.resources.gpu_count",
            "must be 0 or the number of gpu_ids (2); got 1",
            "--gpus: must be 0 or the number of --gpu (2); got 1",
        ),
        ("job.labels[a.b]", "is odd", "--label: is odd"),
        ("job_id", "is odd", "--id: is odd"),
        # As CheckDataRequest names them.
        ("spec.train_data[0].source", "is odd", "--data: is odd"),
        ("spec.hyperparameters.seed", "is odd", "--set seed=...: is odd"),
        ("spec", "is required", "give --model and --data, or --recipe, or --file"),
        ("recipe", "is odd", "--recipe: is odd"),
        ("rows_shown", "must be 0 to 20", "--rows: must be 0 to 20"),
        ("request.job_id", "is odd", "--id: is odd"),
        ("format", "needs train_data or eval_data", "--format: needs --data or --eval-data"),
        ("job.spec", "is required", "give --model and --data, or --recipe, or --file"),
        (
            "train_data",
            "goes inside spec where spec is given",
            "--data: does not go with --file: put it into the file",
        ),
        # Paths and quoted words stay as they are.
        (
            "job.spec.output_dir",
            "not '/x/train_data/y', \"gpu_ids\", /a/output_dir or train_data.jsonl",
            "--output-dir: not '/x/train_data/y', \"gpu_ids\", /a/output_dir or train_data.jsonl",
        ),
        # What no option sets keeps its name.
        ("job.spec.retry_policy.backoff", "is odd", "retry_policy.backoff: is odd"),
        ("", "and 7 more", "and 7 more"),
    ],
)
def test_a_refusal_names_the_option(field: str, description: str, line: str) -> None:
    error = invalid_request([Violation(field, description)])

    assert error_lines(in_options(error, spec_in_file=False)) == [line]


def test_a_spec_in_a_file_keeps_its_fields() -> None:
    violations = [Violation("job.spec.train_data", "is required"), Violation("job_id", "is odd")]

    told = error_lines(in_options(invalid_request(violations), spec_in_file=True))

    assert told == ["--file, train_data: is required", "--id: is odd"]


def test_programs_get_the_field() -> None:
    error = in_options(
        invalid_request([Violation("job.spec.train_data", "is required")]), spec_in_file=False
    )

    assert error_record(error)["violations"] == [
        {"field": "job.spec.train_data", "description": "is required"}
    ]
