"""What target_modules stands for is settled before weights are loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_models import write_tiny_model
from tests.unit.child.asking import Asker
from tests.unit.child.launching import launch
from tests.unit.child.run_folders import make_run_folder

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.close()


def targets_of(family: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """What peft is given, or the refusal, and the layers that then have LoRA."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from tunewright.v1.spec_pb2 import Hyperparameters

    from tests.support.tiny_models import values_of
    from trainer_svc.child.failure import RunFailed
    from trainer_svc.child.model import add_lora
    from trainer_svc.child.targets import find_targets, lora_reach

    values = {"lora_r": 4, "lora_alpha": 8.0, "lora_dropout": 0.05, "max_length": 64, **wanted}
    asked = Hyperparameters(**values)
    with torch.device("meta"):
        config = AutoConfig.for_model(family, **values_of(family, 800))
        empty: Any = AutoModelForCausalLM.from_config(config)
    try:
        found = find_targets(empty, asked)
    except RunFailed as error:
        return {"cause": error.cause, "message": str(error), "hint": error.hint}
    adapted = add_lora(empty, asked, found)
    names = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    return {"modules": found.modules, "reached": lora_reach(adapted), "trained": names}


ALL: dict[str, Any] = {"target_modules": ["all-linear"], "load_in_4bit": True}


@pytest.mark.parametrize(
    ("family", "linear"),
    [
        ("qwen3", 14),
        ("gpt2", 8),
        ("phi3", 8),
        ("mixtral", 8),
        ("qwen3_moe", 8),
        ("olmoe", 8),
        ("gpt_oss", 8),
        # Attention, the shared expert, and the gate before it.
        ("qwen2_moe", 16),
        ("llama4_text", 14),
        ("phimoe", 8),
        # peft would take the names of the dense and the shared layers for the fused experts.
        ("deepseek_v3", 10),
    ],
)
def test_all_linear_is_every_linear_layer_but_output_router_and_experts(
    ask: Asker, family: str, linear: int
) -> None:
    found = ask(targets_of, family, ALL)

    assert found["reached"] == {"linear": linear}
    assert not [name for name in found["trained"] if "lm_head" in name or "embed" in name]


@pytest.mark.parametrize(
    ("family", "names", "message", "hint"),
    [
        (
            "phi3",
            ["q_proj", "down_proj", "zzz"],
            "target_modules: the model has no module q_proj; the model has no module zzz",
            "The model's linear layers are down_proj, gate_up_proj, o_proj, qkv_proj; or use",
        ),
        ("qwen3", ["self_attn"], "self_attn is not a layer that LoRA can sit on", "down_proj"),
        ("qwen3", ["input_layernorm"], "input_layernorm is not a layer that LoRA", "q_proj"),
        ("gpt2", ["wte"], "wte is a layer of the vocabulary, which stays as it is", "c_attn"),
        ("mixtral", ["gate"], "gate is the router of the experts", "experts.gate_up_proj"),
        (
            "qwen3_moe",
            ["q_proj", "gate_proj"],
            "the model has no module gate_proj",
            "and its experts, which are fused, experts.down_proj, experts.gate_up_proj",
        ),
        (
            "qwen3_moe",
            ["experts.gate_up_proj"],
            "LoRA on fused experts (experts.gate_up_proj) does not work with load_in_4bit",
            "Set load_in_4bit to false, or leave the experts out.",
        ),
        (
            "deepseek_v3",
            ["o_proj", "shared_experts.gate_proj"],
            "in a deepseek_v3, peft takes shared_experts.gate_proj for the fused experts",
            "Leave shared_experts.gate_proj out",
        ),
    ],
)
def test_names_of_no_use_are_refused_with_those_that_there_are(
    ask: Asker, family: str, names: list[str], message: str, hint: str
) -> None:
    found = ask(targets_of, family, {"target_modules": names, "load_in_4bit": True})

    assert found["cause"] == "FAILURE_CAUSE_CONFIG_INVALID"
    assert message in found["message"]
    assert hint in found["hint"]


def test_many_wrong_names_are_refused_in_few_words(ask: Asker) -> None:
    names = [f"{'x' * 200}{number}" for number in range(200)]

    found = ask(targets_of, "qwen3", {"target_modules": names})

    assert "and 195 more" in found["message"]
    assert len(found["message"]) < 1000


@pytest.mark.parametrize(
    ("changed", "hint"),
    [({"lora_dropout": 0.05}, "Set lora_dropout to 0"), ({"use_dora": True}, "Set use_dora")],
)
def test_experts_cannot_have_what_peft_cannot_do_on_parameters(
    ask: Asker, changed: dict[str, Any], hint: str
) -> None:
    wanted = {"target_modules": ["experts.down_proj"], "lora_dropout": 0.0, **changed}

    found = ask(targets_of, "mixtral", wanted)

    assert hint in found["hint"]


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral", "gpt_oss"])
def test_experts_are_reached_by_name_in_full_precision(ask: Asker, family: str) -> None:
    names = ["q_proj", "experts.gate_up_proj", "experts.down_proj"]
    wanted = {"target_modules": names, "lora_dropout": 0.0, "load_in_4bit": False}

    found = ask(targets_of, family, wanted)

    assert found["reached"] == {"linear": 2, "experts": 4}


def test_a_wrong_name_ends_the_run_before_rows_and_weights_are_read(
    assets: Path, tmp_path: Path
) -> None:
    folder = make_run_folder(
        tmp_path, assets / "model", assets / "train.jsonl", target_modules=["q_proj", "qproj"]
    )

    assert launch(folder).wait() == 1

    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_CONFIG_INVALID"
    assert failure["message"] == "target_modules: the model has no module qproj"
    assert folder.event_types() == ["FAILED"]


def positions_of(family: str, max_length: int) -> str:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from tunewright.v1.spec_pb2 import Hyperparameters

    from tests.support.tiny_models import values_of
    from trainer_svc.child.failure import RunFailed
    from trainer_svc.child.positions import require_positions

    with torch.device("meta"):
        config = AutoConfig.for_model(family, **values_of(family, 800))
        empty: Any = AutoModelForCausalLM.from_config(config)
    try:
        require_positions(empty, Hyperparameters(max_length=max_length))
    except RunFailed as error:
        return f"{error} {error.hint}"
    return ""


@pytest.mark.parametrize(("family", "positions"), [("gpt2", 128), ("opt", 512)])
def test_max_length_beyond_learned_positions_is_refused(
    ask: Asker, family: str, positions: int
) -> None:
    assert ask(positions_of, family, positions) == ""

    refused = ask(positions_of, family, positions + 1)

    assert f"max_length is {positions + 1}, and the model has {positions} learned" in refused
    assert f"Set max_length to {positions} or less." in refused


def test_rotary_positions_are_no_bound(ask: Asker) -> None:
    assert {ask(positions_of, family, 100_000) for family in ("qwen3", "gpt_oss")} == {""}


def test_rows_beyond_rotary_positions_are_a_warning(
    ask: Asker, assets: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    ask(_short_model, str(model), str(assets / "model"))
    folder = make_run_folder(tmp_path, model, assets / "train.jsonl", max_steps="1")

    assert launch(folder).wait() == 0

    warned = [event for event in folder.entries("event") if event["type"] == "BEYOND_POSITIONS"]
    assert len(warned) == 1
    assert warned[0]["severity"] == "SEVERITY_WARNING"
    assert int(warned[0]["details"]["tokens_max"]) > 24
    assert "Set max_length to 24" in warned[0]["message"]


def _short_model(folder: str, tokenizer_of: str) -> None:
    write_tiny_model("qwen3", folder, 800, tokenizer_of, max_position_embeddings=24)
