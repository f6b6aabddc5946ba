"""From a recipe and what a caller sets to a spec: what is taken, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tunewright.v1 import spec_pb2

from svckit.recipes import parse_recipe, resolve
from svckit.recipes.spec_paths import FIELDS, Kind, with_value
from svckit.refusal import Violation
from svckit.spec import InvalidSpec, JobSpec
from svckit.spec.wire import proto_path, values_from_proto
from tests.unit.recipes.written import PLAIN, spec_only

OPEN = spec_only(
    "train_data: [{format: lccc}]",
    "overridable: {eval_data: , hyperparameters: , hyperparameters.lora_r: {maximum: 32}}",
)
GIVEN = {"model": {"name": "m/n"}, "train_data": [{"source": "/d"}], "output_dir": "o"}


def refusals_of(text, values, noted=()):
    with pytest.raises(InvalidSpec) as caught:
        resolve(parse_recipe(text), "r", values, "job.spec", noted)
    return [(one.field, one.description) for one in caught.value.violations]


def test_what_is_given_goes_over_the_recipe_and_the_rest_is_the_recipe_s():
    given = {"output_dir": "o", "hyperparameters": {"learning_rate": 1e-3}}

    spec = resolve(parse_recipe(PLAIN), "plain", given)

    assert spec == JobSpec.from_mapping(
        {
            "model": {"name": "a/b"},
            "train_data": [{"source": "c/d"}],
            "output_dir": "o",
            "hyperparameters": {"learning_rate": 1e-3},
        }
    )


def test_all_problems_are_in_one_refusal():
    message = spec_pb2.JobSpec(
        model=spec_pb2.ModelSource(name="x/y"),
        train_data=[spec_pb2.DataSource(source="/d")],
        hyperparameters=spec_pb2.Hyperparameters(lora_r=3, learning_rate=0.5, num_train_epochs=-1),
        strict=False,
    )
    message.run_timeout.seconds = 60
    values = values_from_proto(message, [])

    refused = refusals_of(PLAIN, values, [Violation("job.priority", "is too high")])

    fixed = "recipe r does not let it be changed"
    assert sorted(refused) == [
        ("job.priority", "is too high"),
        ("job.spec.hyperparameters.learning_rate", "recipe r allows 1e-06 to 0.01; got 0.5"),
        ("job.spec.hyperparameters.lora_r", fixed),
        ("job.spec.hyperparameters.num_train_epochs", "must be greater than 0; got -1.0"),
        ("job.spec.model.name", fixed),
        ("job.spec.output_dir", "is required by recipe r"),
        ("job.spec.run_timeout", fixed),
        ("job.spec.strict", fixed),
        ("job.spec.train_data", fixed),
    ]


def test_a_value_that_no_spec_may_have_is_refused_under_an_open_field():
    refused = refusals_of(OPEN, {**GIVEN, "hyperparameters": {"lora_dropout": 2.0}})

    assert refused == [("job.spec.hyperparameters.lora_dropout", "must be less than 1; got 2.0")]


def test_a_source_that_says_nothing_of_its_format_gets_the_recipe_s():
    sources = [{"source": "/a"}, {"source": "/b", "format": "DATA_FORMAT_ALPACA"}]

    spec = resolve(parse_recipe(OPEN), "r", {**GIVEN, "train_data": sources})

    assert [one.format.short_name for one in spec.train_data] == ["lccc", "alpaca"]


def test_a_list_is_replaced_as_a_whole():
    text = PLAIN.replace("overridable:\n", "overridable:\n  train_data:\n")
    given = {"output_dir": "o", "train_data": [{"source": "e/f"}]}

    spec = resolve(parse_recipe(text), "r", given)

    assert [one.source for one in spec.train_data] == ["e/f"]


def test_a_required_part_may_be_given_with_all_its_fields():
    model = {"name": "m/n", "revision": "v1"}

    spec = resolve(parse_recipe(OPEN), "r", {**GIVEN, "model": model})

    assert (spec.model.name, spec.model.revision) == ("m/n", "v1")


def test_a_required_list_that_is_empty_is_not_given():
    refused = refusals_of(OPEN, {**GIVEN, "train_data": []})

    assert refused == [("job.spec.train_data", "is required by recipe r")]


def test_defaults_follow_what_was_given_and_not_what_stood_before():
    text = PLAIN.replace("overridable:\n", "overridable:\n  resources:\n")
    given = {"output_dir": "o", "resources": {"gpu_ids": ["0", "3"]}}

    spec = resolve(parse_recipe(text), "r", given)

    assert spec.resources.gpu_count == 2


@pytest.mark.parametrize(
    ("overridable", "values", "refused"),
    [
        (
            "{resources: , resources.gpu_count: {maximum: 1}}",
            {"resources": {"gpu_ids": ["0", "1", "2"]}},
            ("job.spec.resources.gpu_count", "recipe r allows at most 1; it comes to 3"),
        ),
        (
            "{hyperparameters: , hyperparameters.per_device_eval_batch_size: {maximum: 4}}",
            {"hyperparameters": {"per_device_train_batch_size": 64}},
            (
                "job.spec.hyperparameters.per_device_eval_batch_size",
                "recipe r allows at most 4; it comes to 64",
            ),
        ),
    ],
)
def test_a_range_also_holds_for_a_value_that_follows_from_another(overridable, values, refused):
    text = spec_only("train_data: [{format: lccc}]", f"overridable: {overridable}")

    found = refusals_of(text, {**GIVEN, **values})

    assert found == [refused]


def limited_to_steps(overridable):
    return spec_only("hyperparameters: {max_steps: 20}", f"overridable: {overridable}")


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"num_train_epochs": 2.0}, -1),
        ({"num_train_epochs": 2.0, "max_steps": 7}, 7),
        ({"lora_r": 4}, 20),
    ],
)
def test_epochs_of_the_caller_take_the_place_of_the_recipe_s_steps(given, steps):
    text = limited_to_steps("{hyperparameters: }")

    spec = resolve(parse_recipe(text), "r", {**GIVEN, "hyperparameters": given})

    assert spec.hyperparameters.max_steps == steps


@pytest.mark.parametrize(
    ("overridable", "told"),
    [
        ("{hyperparameters.num_train_epochs: }", "does not let it be changed"),
        ("{hyperparameters: , hyperparameters.max_steps: {minimum: 1}}", "allows at least 1"),
        ("{hyperparameters: , hyperparameters.max_steps: {maximum: 50}}", "allows at most 50"),
    ],
)
def test_epochs_that_cannot_take_the_place_of_the_recipe_s_steps_are_refused(overridable, told):
    values = {**GIVEN, "hyperparameters": {"num_train_epochs": 2.0}}

    refused = refusals_of(limited_to_steps(overridable), values)

    sentence = f"has no effect: max_steps is 20, and recipe r {told}"
    assert refused == [("job.spec.hyperparameters.num_train_epochs", sentence)]


LEFT_OPEN = {"output_dir", *parse_recipe(PLAIN).overridable}


@pytest.mark.parametrize(
    "path",
    sorted(one for one in FIELDS if FIELDS[one] is not Kind.PART and one not in LEFT_OPEN),
)
def test_no_field_gets_past_a_recipe_that_does_not_name_it(path):
    values = with_value({"output_dir": "o"}, path, "anything")

    refused = refusals_of(PLAIN, values)

    assert refused == [(proto_path(f"job.spec.{path}"), "recipe r does not let it be changed")]


@given(st.floats())
def test_what_is_resolved_lies_in_the_range(rate):
    recipe = parse_recipe(PLAIN)
    values = {"output_dir": "o", "hyperparameters": {"learning_rate": rate}}

    try:
        spec = resolve(recipe, "r", values)
    except InvalidSpec:
        assert not 1e-6 <= rate <= 1e-2
    else:
        assert spec.hyperparameters.learning_rate == rate
        assert 1e-6 <= rate <= 1e-2


def test_a_recipes_columns_are_those_of_sources_that_name_none():
    text = spec_only(
        "train_data: [{format: alpaca, columns: {instruction: question, output: answer}}]",
        "overridable: {eval_data: }",
    )
    own = {"instruction": "q", "output": "a"}
    given = {**GIVEN, "train_data": [{"source": "/d"}, {"source": "/e", "columns": own}]}

    spec = resolve(parse_recipe(text), "r", given)

    assert [source.columns for source in spec.train_data] == [
        {"instruction": "question", "output": "answer"},
        own,
    ]
