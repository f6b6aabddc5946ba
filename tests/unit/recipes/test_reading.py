"""A recipe's text, checked as a whole: what it means, and every bad field by its path."""

from collections.abc import Sequence

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from svckit.recipes import InvalidRecipe, Range, parse_recipe
from svckit.recipes.spec_paths import FIELDS, Kind
from svckit.refusal import Violation
from svckit.spec import JobSpec
from svckit.spec.enums import DataFormat
from tests.unit.recipes.written import PLAIN, refusals_of, spec_only


def test_a_recipe_says_what_is_required_open_and_fixed():
    recipe = parse_recipe(PLAIN)

    assert recipe.description == "a plain one"
    assert recipe.required == ("output_dir",)
    assert recipe.overridable == {
        "hyperparameters.learning_rate": Range(1e-6, 1e-2),
        "hyperparameters.num_train_epochs": Range(),
    }
    assert recipe.shown["hyperparameters"]["lora_r"] == 16
    assert "output_dir" not in recipe.shown


def test_every_field_of_the_spec_has_a_path():
    dumped = JobSpec.from_mapping(
        {
            "model": {"name": "a/b"},
            "train_data": [{"source": "c/d"}],
            "output_dir": "o",
            "backend": "swift",
        }
    ).model_dump()

    assert dumped.keys() == {path for path in FIELDS if "." not in path}
    for part in ("model", "hyperparameters", "resources", "retry_policy", "swift"):
        assert dumped[part].keys() == {
            path.partition(".")[2] for path in FIELDS if path.startswith(f"{part}.")
        }
    assert FIELDS["train_data"] is FIELDS["hyperparameters.target_modules"] is Kind.LIST
    assert FIELDS["hyperparameters.eval_steps"] is Kind.WHOLE_NUMBER
    assert FIELDS["max_dropped_fraction"] is Kind.NUMBER
    assert FIELDS["swift"] is Kind.PART


def test_all_that_is_wrong_is_named_at_once_by_its_path():
    refused = refusals_of(
        """\
descripton: a slip of the pen
required: [output_di, resources, output_dir, output_dir, 3, "train_data[0].source"]
overridable:
  lora_r:
  hyperparameters.lora_alpha: {minimum: 0}
  hyperparameters.packing: {minimum: 1}
  hyperparameters.max_length: {minimum: 10, maximum: 9}
  hyperparameters.seed: {maximum: 1.5}
  hyperparameters.warmup_ratio: {min: 0.1}
  hyperparameters.weight_decay: {maximum: lots}
  hyperparameters.max_grad_norm: 3
  output_dir:
spec:
  model: {name: a/b}
  hyperparameters: {lora_rr: 1, learning_rate: -1}
"""
    )

    where = "recipe.yaml: "
    assert refused == {
        f"{where}descripton": "unknown key; did you mean 'description'?",
        f"{where}description": "is required: one line for people",
        f"{where}required[0]": "'output_di' is no field of a spec; did you mean 'output_dir'?",
        f"{where}required[1]": "'resources' has defaults; name the field of it that is required",
        f"{where}required[3]": "'output_dir' is named twice",
        f"{where}required[4]": "3 is no field of a spec",
        f"{where}required[5]": "'train_data[0].source' leads into a list; name the whole list",
        f"{where}overridable.lora_r": (
            "is no field of a spec; did you mean 'hyperparameters.lora_r'?"
        ),
        f"{where}overridable.hyperparameters.lora_alpha.minimum": (
            "the spec does not allow it: must be greater than 0; got 0"
        ),
        f"{where}overridable.hyperparameters.packing": "cannot have a range: it is no number",
        f"{where}overridable.hyperparameters.max_length": (
            "the minimum, 10, is above the maximum, 9"
        ),
        f"{where}overridable.hyperparameters.seed.maximum": (
            "the spec does not allow it: must be a whole number; got 1.5"
        ),
        f"{where}overridable.hyperparameters.warmup_ratio.min": (
            "unknown key; there are minimum and maximum"
        ),
        f"{where}overridable.hyperparameters.weight_decay.maximum": (
            "must be a number; got 'lots'"
        ),
        f"{where}overridable.hyperparameters.max_grad_norm": (
            "must be nothing, or {minimum: ..., maximum: ...}"
        ),
        f"{where}overridable.output_dir": "'output_dir' is required, and cannot be both",
        f"{where}spec.train_data": "is required: give it here, or name it under required",
        f"{where}spec.hyperparameters.lora_rr": "unknown field; did you mean 'lora_r'?",
        f"{where}spec.hyperparameters.learning_rate": "must be greater than 0; got -1",
    }


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("", "", "must be a mapping with description, required, overridable, spec"),
        ("[]", "", "must be a mapping"),
        ("a: *b", "", "line 1: aliases (*b) cannot be used"),
        ("description: x", "spec", "is required"),
        ("description: x\nspec: 3", "spec", "must be a mapping of field names to values"),
        ("description: x\nrequired: a\nspec: {}", "required", "must be a list of fields"),
        ("description: x\noverridable: [a]\nspec: {}", "overridable", "must be a mapping"),
        ('description: "a\\nb"\nspec: {}', "description", "must be one line"),
        (f"description: {'x' * 201}\nspec: {{}}", "description", "at most 200 characters long"),
        (spec_only("output_dir: x"), "spec.output_dir", "is required of the caller"),
        (spec_only("model: {name: a/b}"), "spec.model", "is required of the caller"),
        (
            spec_only("hyperparameters: {lora_r: 64}",
                      "overridable: {hyperparameters.lora_r: {maximum: 32}}"),
            "spec.hyperparameters.lora_r", "without an override it is 64; overridable allows",
        ),
        (spec_only("backend: qlora", "overridable: {swift: }"), "overridable.swift",
         "is only for the swift backend; this is qlora"),
        (spec_only("eval_data: [{format: lccc}]"), "spec.eval_data",
         "an entry without a source needs eval_data to be the caller's"),
        (spec_only("train_data: [{format: lccc}, {source: a/b}]"), "spec.train_data",
         "an entry without a source must stand alone"),
        (spec_only("train_data: [{format: lcc}]"), "spec.train_data[0].format", "must be one of"),
        (spec_only("train_data: [{formt: lccc}]"), "spec.train_data[0].formt", "did you mean"),
        (spec_only("run_timeout: 3"), "spec.run_timeout", "did you mean 'run_timeout_seconds'?"),
    ],
)  # fmt: skip
def test_a_bad_field_is_named(text, field, words):
    refused = refusals_of(text)

    place = f"recipe.yaml: {field}" if field else "recipe.yaml"
    assert words in refused[place]


def test_an_entry_without_a_source_is_a_pattern_for_the_caller_s():
    recipe = parse_recipe(spec_only("train_data: [{format: lccc, split: test}]"))

    assert recipe.patterns == {"train_data": {"format": DataFormat.LCCC, "split": "test"}}
    assert recipe.shown["train_data"] == [recipe.patterns["train_data"]]


def test_of_two_names_the_nearer_one_has_the_range():
    more = "overridable: {hyperparameters: , hyperparameters.lora_r: {maximum: 32}}"

    recipe = parse_recipe(spec_only("backend: qlora", more))

    assert recipe.range_of("hyperparameters.lora_r") == Range(None, 32)
    assert recipe.range_of("hyperparameters.seed") == Range()
    assert recipe.range_of("strict") is None


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "required", "overridable", "description", *FIELDS])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(trees)
def test_any_tree_is_a_recipe_or_refused_with_a_reason_for_each_field(tree):
    violations: Sequence[Violation] = ()
    try:
        parse_recipe(yaml.safe_dump(tree))
    except InvalidRecipe as refused:
        violations = refused.violations

    assert all(one.field.startswith("recipe.yaml") for one in violations)
    assert all(one.description for one in violations)
