"""The job spec off the wire: defaults, bounds, and every bad field named at once."""

import contextlib
import math

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import given
from hypothesis import strategies as st
from tunewright.v1 import spec_pb2

from svckit.spec import Accelerator, Backend, DataFormat, InvalidSpec, JobSpec, data_fields
from svckit.spec.wire import spec_from_proto, spec_to_proto


def minimal() -> spec_pb2.JobSpec:
    return spec_pb2.JobSpec(
        model=spec_pb2.ModelSource(name="Qwen/Qwen3-0.6B"),
        train_data=[spec_pb2.DataSource(source="/data/train.jsonl")],
        output_dir="runs/one",
    )


def refusals_of(message: spec_pb2.JobSpec) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        spec_from_proto(message)
    return {violation.field: violation.description for violation in caught.value.violations}


def test_absent_fields_take_the_defaults_of_the_contract():
    message = minimal()

    spec = spec_from_proto(message)

    assert spec.backend is Backend.QLORA
    assert spec.train_data[0].format is DataFormat.UNSPECIFIED
    assert spec.resources.accelerator is Accelerator.GPU
    assert spec.resources.gpu_count == 1
    assert spec.hyperparameters.learning_rate == 2e-4
    assert spec.hyperparameters.target_modules == ("all-linear",)
    assert spec.hyperparameters.gradient_checkpointing is True
    assert spec.hyperparameters.per_device_eval_batch_size == 2
    assert spec.hyperparameters.bf16 is None
    assert spec.retry_policy.attempts_max == 3
    assert spec.retry_policy.backoff_seconds == 10
    assert spec.run_timeout_seconds is None


def test_a_spec_survives_the_wire_and_its_json():
    message = minimal()
    message.run_timeout.FromMilliseconds(1500)
    message.hyperparameters.max_grad_norm = 0
    message.retry_policy.backoff.FromSeconds(0)
    message.train_data[0].columns["instruction"] = "question"
    spec = spec_from_proto(message)

    again = spec_from_proto(spec_to_proto(spec))

    assert again == spec
    assert JobSpec.from_json(spec.to_json()) == spec
    assert again.run_timeout_seconds == 1.5
    assert again.hyperparameters.max_grad_norm == 0
    assert again.retry_policy.backoff_seconds == 0


def test_a_value_that_is_set_to_zero_is_not_taken_for_absent():
    message = minimal()
    message.hyperparameters.per_device_train_batch_size = 0

    refused = refusals_of(message)

    assert refused == {
        "job.spec.hyperparameters.per_device_train_batch_size": "must be at least 1; got 0"
    }


def test_every_bad_field_is_named_at_once():
    message = spec_pb2.JobSpec(output_dir="../away")
    message.hyperparameters.learning_rate = -1
    message.hyperparameters.lr_scheduler_type = "cubic"
    message.train_data.add(source="relative.json")
    message.train_data.add(source="/data/a.json#0")
    message.run_timeout.FromSeconds(-3)
    message.resources.accelerator = 9  # type: ignore[assignment] # no such accelerator

    refused = refusals_of(message)

    assert set(refused) == {
        "job.spec.model",
        "job.spec.train_data[0].source",
        "job.spec.train_data[1].source",
        "job.spec.hyperparameters.learning_rate",
        "job.spec.hyperparameters.lr_scheduler_type",
        "job.spec.resources.accelerator",
        "job.spec.run_timeout",
        "job.spec.output_dir",
    }
    assert "-1.0" in refused["job.spec.hyperparameters.learning_rate"]
    assert "is required" in refused["job.spec.model"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value):
    message = minimal()
    message.hyperparameters.lora_alpha = value

    refused = refusals_of(message)

    assert "finite" in refused["job.spec.hyperparameters.lora_alpha"]


def test_a_field_that_this_version_does_not_know_is_refused_wherever_it_stands():
    message = minimal()
    message.hyperparameters.MergeFromString(b"\xf8\x07\x01")  # field 127, varint 1
    message.train_data[0].MergeFromString(b"\xf0\x07\x01")  # field 126, varint 1
    assert len(UnknownFieldSet(message.hyperparameters)) == 1

    refused = refusals_of(message)

    assert "127" in refused["job.spec.hyperparameters"]
    assert "may be older than the client" in refused["job.spec.hyperparameters"]
    assert "126" in refused["job.spec.train_data[0]"]


def test_gpu_ids_set_the_count_and_a_cpu_job_has_none():
    with_ids = minimal()
    with_ids.resources.gpu_ids.extend(["0", "3"])
    on_cpu = minimal()
    on_cpu.resources.accelerator = spec_pb2.ACCELERATOR_CPU

    two, none = spec_from_proto(with_ids), spec_from_proto(on_cpu)

    assert two.resources.gpu_count == 2
    assert none.resources.gpu_count == 0
    assert none.hyperparameters.gradient_checkpointing is False
    assert spec_from_proto(spec_to_proto(none)) == none


@pytest.mark.parametrize(
    ("resources", "field", "words"),
    [
        ({"gpu_ids": ["0", "0"]}, "gpu_ids", "once"),
        ({"gpu_ids": ["zero"]}, "gpu_ids", "digits"),
        ({"gpu_ids": ["00"]}, "gpu_ids", "digits"),
        ({"gpu_ids": ["0", "1"], "gpu_count": 3}, "gpu_count", "number of gpu_ids (2)"),
        ({"gpu_count": 65}, "gpu_count", "at most 64"),
        ({"gpu_count": -1}, "gpu_count", "at least 0"),
        ({"accelerator": "ACCELERATOR_CPU", "gpu_count": 1}, "gpu_count", "0 for a CPU job"),
        ({"accelerator": "ACCELERATOR_CPU", "gpu_ids": ["0"]}, "gpu_ids", "empty for a CPU job"),
        (
            {"accelerator": "ACCELERATOR_CPU", "gpu_memory_bytes_min": 1},
            "gpu_memory_bytes_min",
            "0 for a CPU job",
        ),
        ({"trainer": "jobs/a"}, "trainer", "trainers/"),
    ],
)
def test_resources_that_contradict_themselves_are_refused(resources, field, words):
    message = minimal()
    message.resources.MergeFrom(spec_pb2.Resources(**resources))

    refused = refusals_of(message)

    assert words in refused[f"job.spec.resources.{field}"]


def test_a_swift_job_is_a_good_spec():
    message = minimal()
    message.backend = spec_pb2.BACKEND_SWIFT

    spec = spec_from_proto(message)

    assert spec.backend is Backend.SWIFT


def checked(message: spec_pb2.JobSpec) -> JobSpec | list[str]:
    """The spec, or the names of the bad fields."""
    try:
        return spec_from_proto(message)
    except InvalidSpec as refused:
        return [violation.field for violation in refused.violations]


@given(st.text(max_size=400))
def test_no_text_makes_an_output_dir_that_leads_elsewhere(text):
    message = minimal()
    message.output_dir = text

    result = checked(message)

    if isinstance(result, list):
        assert result == ["job.spec.output_dir"]
    else:
        components = result.output_dir.split("/")
        assert not {"", ".", ".."} & set(components)
        assert all(not component.startswith(".") for component in components)
        assert all(len(component.encode()) <= 255 for component in components)


@given(st.binary(max_size=300))
def test_any_message_that_parses_is_either_good_or_refused_by_name(data):
    message = spec_pb2.JobSpec()
    with contextlib.suppress(DecodeError):
        message.ParseFromString(data)

    result = checked(message)

    if isinstance(result, list):
        assert result
        assert all(field.startswith("job.spec") for field in result)
    else:
        assert spec_from_proto(spec_to_proto(result)) == result


@pytest.mark.parametrize(
    ("data_format", "columns", "words"),
    [
        ("", {"instrution": "q"}, "'instrution' is not a field of any format; did you mean"),
        ("ALPACA", {"messages": "q"}, "'messages' is not a field of alpaca"),
        ("TEXT", {"": "q"}, "'' is not a field of text"),
        ("", {"output": ""}, "must have 1 to 128 characters; it has 0"),
        ("", {"output": "x" * 129}, "must have 1 to 128 characters; it has 129"),
        ("", {"output": "a\nb"}, "control characters"),
        ("", {"output": "a", "input": "a"}, "'a' has several"),
        ("", {f"f{number}": "a" for number in range(17)}, "at most 16 entries; it has 17"),
    ],
)
def test_columns_that_no_format_has_are_refused(data_format, columns, words):
    message = minimal()
    source = message.train_data[0]
    source.columns.update(columns)
    if data_format:
        source.format = spec_pb2.DataFormat.Value(f"DATA_FORMAT_{data_format}")

    refusals = refusals_of(message)

    assert list(refusals) == ["job.spec.train_data[0].columns"]
    assert words in refusals["job.spec.train_data[0].columns"]


def test_every_format_has_fields():
    assert set(data_fields.FIELDS_OF) == set(DataFormat.choices())
