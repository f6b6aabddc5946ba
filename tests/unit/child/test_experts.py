"""NF4 reaches the experts of a mixture of experts, and the record says what was done."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_models import write_tiny_model
from tests.unit.child.asking import Asker
from tests.unit.child.launching import launch
from tests.unit.child.run_folders import make_run_folder
from trainer_svc.child.manifest import prove

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]
VOCABULARY = 800
MIXTURES = ["qwen3_moe", "mixtral", "olmoe", "deepseek_v3", "gpt_oss", "qwen2_moe"]


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.close()


def experts_loaded(family: str, folder: str) -> dict[str, Any]:
    """How the experts are held, and whether they are what packing and unpacking makes of them;
    the losses of training beside them, and of training beside weights that were unpacked."""
    import torch
    from bitsandbytes import functional
    from torch.nn.utils import parametrize
    from transformers import AutoModelForCausalLM

    from trainer_svc.child.model import BaseModel, load_base
    from trainer_svc.child.nf4 import experts
    from trainer_svc.child.weights_account import measure, plan

    write_tiny_model(family, folder, VOCABULARY)
    base = BaseModel("tiny", "", Path(folder))
    loaded = load_base(base, _wanted(), _hardware())
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    named = list(experts(plain))
    equal = []
    for path, module, name in named:
        original = getattr(module, name)
        packed = functional.quantize_4bit(original.data, compress_statistics=True, quant_type="nf4")
        place: Any = loaded.get_submodule(path.rpartition(".")[0])
        equal.append(bool(torch.equal(getattr(place, name), functional.dequantize_4bit(*packed))))
        assert place.parametrizations[name].original.dtype is torch.uint8
    account, planned = measure(loaded), plan(plain, True, torch.bfloat16)
    losses = _losses(loaded)
    return {
        "experts": len(named),
        "equal": equal,
        "account": account.as_dict(),
        "plan": planned.as_dict(),
        "losses": losses,
        "reference": _losses(_unpacked(base, named)),
        # What unpacking keeps is gone once a step is done.
        "kept": len(parametrize._cache),  # torch has no other way to ask
    }


def _wanted() -> Any:
    from tunewright.v1.spec_pb2 import Hyperparameters

    return Hyperparameters(
        load_in_4bit=True,
        lora_r=4,
        lora_alpha=8.0,
        lora_dropout=0.0,
        target_modules=["all-linear"],
        bf16=True,
        seed=1,
    )


def _hardware() -> Any:
    from trainer_svc.child.hardware import choose_hardware

    return choose_hardware(True, _wanted())


def _unpacked(base: Any, named: list[Any]) -> Any:
    """The same model as transformers loads it, with experts packed and unpacked by hand."""
    import torch
    from bitsandbytes import functional
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # no stubs
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model: Any = AutoModelForCausalLM.from_pretrained(
        base.folder, quantization_config=config, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    for path, _, _ in named:
        weight = model.get_parameter(path)
        packed = functional.quantize_4bit(weight.data, compress_statistics=True, quant_type="nf4")
        weight.data.copy_(functional.dequantize_4bit(*packed))
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _losses(model: Any) -> list[float]:
    """Of four steps on one batch, with the activations recomputed."""
    import torch

    from trainer_svc.child.model import add_lora
    from trainer_svc.child.targets import find_targets

    adapted: Any = add_lora(model, _wanted(), find_targets(model, _wanted()))
    adapted.gradient_checkpointing_enable({"use_reentrant": False})
    adapted.enable_input_require_grads()
    adapted.train()
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    ids = torch.arange(3, 67).reshape(2, 32)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = adapted(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("family", MIXTURES)
def test_experts_are_packed_exactly_and_train_as_if_they_were_not(
    ask: Asker, tmp_path: Path, family: str
) -> None:
    seen = ask(experts_loaded, family, str(tmp_path / family))

    assert seen["experts"] == (2 if family == "deepseek_v3" else 4)  # one layer of it is dense
    assert seen["equal"] == [True] * seen["experts"]
    assert seen["losses"] == seen["reference"]
    assert seen["losses"][-1] < seen["losses"][0]
    assert seen["kept"] == 0


@pytest.mark.parametrize("family", MIXTURES)
def test_the_account_is_what_the_plan_said(ask: Asker, tmp_path: Path, family: str) -> None:
    seen = ask(experts_loaded, family, str(tmp_path / family))

    account = seen["account"]
    assert account == seen["plan"]
    assert account["format"] == "nf4, double quantisation"
    # 8 or 4 experts of 64 x 64 and 64 x 32 weights, or of 128 x 64 and 64 x 64: a half byte each,
    # and a little for their scales.
    layers = 1 if family == "deepseek_v3" else 2
    weights = layers * 49_152
    assert weights / 2 < account["quantised_bytes"]["experts"] < weights / 2 * 1.13
    assert account["experts_unpacked_bytes_max"] == 49_152 * 2
    full = account["full_precision_bytes"]
    assert full["embeddings"] == full["output"] == VOCABULARY * 64 * 2
    assert full.get("experts", 0) == (3072 if family == "gpt_oss" else 0)  # its biases


def unpacked_for_backward(folder: str, checkpointing: bool) -> dict[str, int]:
    """The bytes of experts that a forward pass keeps for the backward pass, and the account's."""
    import torch

    from trainer_svc.child.model import BaseModel, add_lora, load_base
    from trainer_svc.child.targets import find_targets
    from trainer_svc.child.weights_account import measure

    loaded = load_base(BaseModel("tiny", "", Path(folder)), _wanted(), _hardware())
    account = measure(loaded)
    adapted: Any = add_lora(loaded, _wanted(), find_targets(loaded, _wanted()))
    adapted.train()
    adapted.enable_input_require_grads()
    if checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 3 and tensor.shape[0] == 8:  # experts
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.arange(3, 67).reshape(2, 32)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        adapted(input_ids=ids, labels=ids)
    return {"kept": sum(kept.values()), "account": account.unpacked_bytes}


def test_without_checkpointing_the_unpacked_experts_are_kept_as_the_account_says(
    ask: Asker, tmp_path: Path
) -> None:
    ask(write_tiny_model, "qwen3_moe", str(tmp_path), VOCABULARY)

    kept = ask(unpacked_for_backward, str(tmp_path), False)
    recomputed = ask(unpacked_for_backward, str(tmp_path), True)

    assert kept["kept"] == kept["account"] == 2 * 49_152 * 2
    assert recomputed["kept"] == 0


def shapes_of(result: str) -> dict[str, Any]:
    """What is in an adapter, and the loss of a fresh process that loads it with plain peft."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    config = json.loads(Path(result, "adapter_config.json").read_bytes())
    base: Any = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    ids = torch.arange(3, 67).reshape(2, 32)
    with torch.no_grad():
        before = base(input_ids=ids, labels=ids).loss.item()
        tuned: Any = PeftModel.from_pretrained(base, result)
        after = tuned(input_ids=ids, labels=ids).loss.item()
    adapted = sorted(name for name, _ in tuned.named_parameters() if "lora_" in name)
    return {"before": before, "after": after, "adapted": adapted}


@pytest.mark.parametrize(
    ("family", "changed", "reached"),
    [
        ("qwen3_moe", {}, {"linear": 8}),
        ("deepseek_v3", {}, {"linear": 10}),
        (
            "mixtral",
            {
                "target_modules": ["q_proj", "experts.gate_up_proj", "experts.down_proj"],
                "load_in_4bit": False,
                "lora_dropout": 0.0,
            },
            {"experts": 4, "linear": 2},
        ),
    ],
)
def test_a_mixture_trains_and_its_record_says_what_was_done(
    ask: Asker,
    assets: Path,
    tmp_path: Path,
    family: str,
    changed: dict[str, Any],
    reached: dict[str, int],
) -> None:
    model = tmp_path / "model"
    ask(write_tiny_model, family, str(model), VOCABULARY, str(assets / "model"))
    folder = make_run_folder(
        tmp_path,
        model,
        assets / "train.jsonl",
        **{"max_steps": "6", "logging_steps": 1, "learning_rate": 2e-2, **changed},
    )

    assert launch(folder).wait() == 0, folder.result

    loaded = next(e for e in folder.entries("event") if e["type"] == "MODEL_LOADED")
    manifest = prove(folder.staging)["quantisation"]
    assert manifest["lora_modules"] == reached
    if changed:
        assert manifest["format"] == loaded["details"]["quantisation"] == "none"
        assert "experts" in manifest["full_precision_bytes"]
        assert "nothing is quantised" in loaded["message"]
    else:
        packed = manifest["quantised_bytes"]["experts"]
        assert f"experts={packed}" in loaded["details"]["quantised_bytes"]
        assert loaded["details"]["lora_modules"] == f"linear={reached['linear']}"
        # On a CPU activations are not recomputed unless the job says so.
        assert "EXPERTS_UNPACKED" in folder.event_types()
    losses = folder.losses()
    assert losses[6] < losses[1]
    alone = ask(shapes_of, str(folder.staging))
    assert len(alone["adapted"]) == 2 * sum(reached.values())
    assert alone["after"] != alone["before"]


def test_the_plan_of_a_model_is_printed_from_its_config_alone(tmp_path: Path) -> None:
    """Qwen3-30B-A3B's shape: 30.5 billion parameters, 29 of them in experts."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_30B_A3B))

    done = subprocess.run(
        [sys.executable, "-m", "trainer_svc.child.weights_account", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    assert account["parameters"] == 30_532_122_624
    experts = 48 * 128 * 3 * 768 * 2048
    assert account["quantised_bytes"]["experts"] == pytest.approx(experts * 0.516, rel=1e-3)
    assert "experts" not in account["full_precision_bytes"]


QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 151936,
}
