"""The job spec out of a parsed file: the same model, the same sentences."""

import pytest

from svckit.spec import Accelerator, Backend, DataFormat, InvalidSpec, JobSpec


def mapping(**more: object) -> dict[str, object]:
    return {
        "model": {"name": "Qwen/Qwen3-0.6B"},
        "train_data": [{"source": "/data/a.json#9", "format": "lccc"}],
        "output_dir": "one",
        **more,
    }


def refusals_of(given: dict[str, object]) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        JobSpec.from_mapping(given, "spec")
    return {violation.field: violation.description for violation in caught.value.violations}


@pytest.mark.parametrize("backend", ["qlora", "QLORA", "BACKEND_QLORA"])
def test_choices_go_by_their_short_and_their_proto_names(backend):
    given = mapping(backend=backend, resources={"accelerator": "cpu"})

    spec = JobSpec.from_mapping(given)

    assert spec.backend is Backend.QLORA
    assert spec.resources.accelerator is Accelerator.CPU
    assert spec.train_data[0].format is DataFormat.LCCC


def test_a_choice_that_does_not_exist_is_answered_with_those_that_do():
    refused = refusals_of(mapping(backend="axolotl"))

    assert refused == {"spec.backend": "must be one of qlora, swift; got 'axolotl'"}


def test_a_misspelt_field_is_answered_with_the_near_one():
    refused = refusals_of(
        mapping(hyperparameters={"learning_rte": 1e-4}, retry_policy={"zzz": 1}, modle="x")
    )

    assert refused == {
        "spec.hyperparameters.learning_rte": "unknown field; did you mean 'learning_rate'?",
        "spec.retry_policy.zzz": "unknown field",
        "spec.modle": "unknown field; did you mean 'model'?",
    }


def test_a_number_that_yaml_reads_as_text_is_still_a_number():
    given = mapping(hyperparameters={"learning_rate": "1e-4"}, resources={"gpu_ids": [0, 1]})

    spec = JobSpec.from_mapping(given)

    assert spec.hyperparameters.learning_rate == 1e-4
    assert spec.resources.gpu_ids == ("0", "1")


def test_values_of_the_wrong_kind_are_refused_in_words():
    refused = refusals_of(
        mapping(
            resources="gpu",
            hyperparameters={"lora_r": True, "packing": "perhaps", "max_length": 8.5},
            system_prompt="a\0b",
        )
    )

    assert refused == {
        "spec.resources": "must be a mapping of field names to values",
        "spec.hyperparameters.lora_r": "must be a number, not a truth value",
        "spec.hyperparameters.packing": "must be true or false; got 'perhaps'",
        "spec.hyperparameters.max_length": "must be a whole number; got 8.5",
        "spec.system_prompt": "must not contain U+0000, as at position 1",
    }


def test_all_linear_stands_alone():
    refused = refusals_of(mapping(hyperparameters={"target_modules": ["all-linear", "q_proj"]}))

    assert refused["spec.hyperparameters.target_modules"] == "'all-linear' must stand alone"


def test_the_json_of_a_spec_does_not_depend_on_the_order_it_was_given_in():
    given = mapping(backend="qlora", system_prompt="be brief")

    forwards = JobSpec.from_mapping(given)
    backwards = JobSpec.from_mapping(dict(reversed(given.items())))

    assert forwards.to_json() == backwards.to_json()


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens", "model.embed_tokens"])
def test_layers_of_the_vocabulary_get_no_lora_from_qlora(name):
    wanted = {"target_modules": ["q_proj", name]}

    refused = refusals_of(mapping(backend="qlora", hyperparameters=wanted))
    taken = JobSpec.from_mapping(mapping(backend="swift", hyperparameters=wanted))

    assert refused == {
        "spec.hyperparameters": f"target_modules: {name} cannot get LoRA with the qlora backend,"
        " because the layers of the vocabulary stay as they are; leave them out, or use"
        " 'all-linear'"
    }
    assert taken.hyperparameters.target_modules == ("q_proj", name)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0, "must be greater than 0; got 0"),
        (100.5, "must be at most 100"),
        (float("nan"), "must be a finite number; got nan"),
        (True, "must be a number, not a truth value"),
    ],
)
def test_neftune_has_a_range(value, sentence):
    refused = refusals_of(mapping(hyperparameters={"neftune_noise_alpha": value}))

    assert list(refused) == ["spec.hyperparameters.neftune_noise_alpha"]
    assert refused["spec.hyperparameters.neftune_noise_alpha"].startswith(sentence)
