"""Every family that reads pictures, trained for a few steps with QLoRA, its masks checked by
what the rows say and not by what the templates do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.child.families import picture_models
from tests.unit.child.families.picture_rows import write_rows
from tests.unit.child.families.pictures import BY_NAME, FAMILIES, PictureFamily
from tests.unit.child.launching import call_warm, launch
from tests.unit.child.run_folders import RunFolder, make_run_folder
from trainer_svc.child.manifest import prove

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]


@pytest.fixture(scope="module", params=[family.name for family in FAMILIES])
def family(request: pytest.FixtureRequest) -> PictureFamily:
    return BY_NAME[request.param]


@pytest.fixture(scope="module")
def made(family: PictureFamily, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/ and rows.jsonl."""
    folder = tmp_path_factory.mktemp(family.name)
    write_rows(folder, family.takes_system)
    call_warm(picture_models.write_family, family.name, str(folder))
    return folder


def prepared(run_folder: str, template: str) -> list[dict[str, Any]]:
    """What the production code makes of each row: what is learnt, stretch by stretch, and where
    its pictures are. `template` is put in the place of the model's own, if not empty."""
    from trainer_svc.child.model import BaseModel
    from trainer_svc.child.run_spec import read_run_spec
    from trainer_svc.child.spool import Spool
    from trainer_svc.child.vlm import load_processor
    from trainer_svc.child.vlm_batches import PictureBatches
    from trainer_svc.child.vlm_prepare import prepare_pictures

    run = read_run_spec(Path(run_folder))
    processor: Any = load_processor(BaseModel("tiny", "", Path(run.spec.model.name)))
    if template:
        processor.chat_template = template
    cache = run.paths.cache
    rows = prepare_pictures(run, processor, cache, Spool(cache.parent / "spool.jsonl")).train
    collate = PictureBatches(processor)
    seen = []
    for row in rows:
        batch = collate([row])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        shows = [token in processor.image_token_ids for token in ids]
        seen.append(
            {
                "learnt": [processor.tokenizer.decode(run) for run in runs_of(labels)],
                "pictures": len(row["pictures"]),
                "shown": sum(shows),
                "same": all(
                    label in (-100, token) for label, token in zip(labels, ids, strict=True)
                ),
                "shown_learnt": sum(
                    label != -100 for label, shown in zip(labels, shows, strict=True) if shown
                ),
            }
        )
    return seen


def runs_of(labels: list[int]) -> list[list[int]]:
    """The stretches of tokens with loss."""
    runs: list[list[int]] = [[]]
    for label in labels:
        if label != -100:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


# One that no library knows to the letter: the text is the same.
VARIANT = "{# a variant #}"


@pytest.mark.parametrize("known", [True, False], ids=["published", "variant"])
def test_only_what_the_assistant_says_is_learnt(
    family: PictureFamily, made: Path, tmp_path: Path, known: bool
) -> None:
    template = "" if known else VARIANT + picture_models.template_of(template_name(family))

    rows = call_warm(prepared, str(folder_for(tmp_path, made).path), template)

    given = list(picture_models.rows_of(made / "rows.jsonl"))
    assert len(rows) == len(given) > 25
    for row, source in zip(rows, given, strict=True):
        said = [turn["content"] for turn in source["messages"] if turn["role"] == "assistant"]
        assert [words.strip() for words in row["learnt"]] == [f"{one}{family.end}" for one in said]
        assert row["pictures"] == len(source.get("images", []))
        assert (row["shown"] > 0) == (row["pictures"] > 0)
        assert row["shown_learnt"] == 0
        assert row["same"]


def template_name(family: PictureFamily) -> str:
    return "qwen2_5_vl" if family.name == "qwen2_vl" else family.name


def folder_for(root: Path, made: Path, **changes: Any) -> RunFolder:
    wanted: Mapping[str, Any] = {
        "model_kind": "MODEL_KIND_VLM",
        "max_steps": "12",
        "max_length": 512,
        "logging_steps": 1,
        "bf16": False,
        "spec_fields": {"strict": True},
        **changes,
    }
    rows = made / "rows.jsonl"
    return make_run_folder(root, made / "model", rows, evaluation=rows, **wanted)


def test_the_family_trains(family: PictureFamily, made: Path, tmp_path: Path) -> None:
    folder = folder_for(tmp_path, made)
    process = launch(folder)

    assert process.wait() == 0, process.output()

    losses = folder.losses()
    assert sum(losses[step] for step in (10, 11, 12)) < 0.9 * sum(losses[s] for s in (1, 2, 3))
    (receipt, _) = folder.entries("data_prepared")
    assert receipt["rows_kept"] == receipt["rows_read"]
    prove(folder.staging)
    seen = call_warm(adapted, str(made / "model"), str(folder.staging), str(made / "rows.jsonl"))
    assert seen["loss"] < seen["base_loss"]
    assert seen["names"]
    assert all(".language_model." in name or ".text_model." in name for name in seen["names"])


def adapted(model: str, adapter: str, rows: str) -> dict[str, Any]:
    """Loads the adapter with peft alone, on the model in full precision."""
    import json

    import torch
    from peft import PeftModel
    from PIL import Image
    from safetensors.numpy import load_file
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(1)
    auto: Any = AutoProcessor
    processor = auto.from_pretrained(model)
    row = json.loads(Path(rows).read_text().splitlines()[0])
    chat = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which colour?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "It is red, I think."}]},
    ]
    text = processor.apply_chat_template(chat)
    picture = Image.open(Path(rows).parent / row["images"][0])
    batch = processor(
        text=[text], images=[[picture]], add_special_tokens=False, return_tensors="pt"
    )
    base: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    labels = batch["input_ids"].masked_fill(
        torch.isin(batch["input_ids"], torch.tensor(processor.image_token_ids)), -100
    )
    with torch.no_grad():
        base_loss = base(**batch, labels=labels).loss.item()
        loss = PeftModel.from_pretrained(base, adapter)(**batch, labels=labels).loss.item()
    names = list(load_file(Path(adapter, "adapter_model.safetensors")))
    return {"loss": loss, "base_loss": base_loss, "names": names}


def parts_of(model: str) -> dict[str, list[str]]:
    """Names of the linear layers: in four bits, and of all others."""
    from bitsandbytes.nn.modules import Linear4bit
    from torch import nn
    from tunewright.v1.spec_pb2 import Hyperparameters

    from trainer_svc.child.hardware import choose_hardware
    from trainer_svc.child.model import BaseModel
    from trainer_svc.child.vlm import frozen_parts, load_vlm

    wanted = Hyperparameters(load_in_4bit=True, lora_r=4, lora_alpha=8, bf16=False)
    loaded = load_vlm(BaseModel("tiny", "", Path(model)), wanted, choose_hardware(True, wanted))
    linear = {
        name: module for name, module in loaded.named_modules() if isinstance(module, nn.Linear)
    }
    quantised = [name for name, module in linear.items() if isinstance(module, Linear4bit)]
    return {
        "quantised": quantised,
        "whole": [name for name in linear if name not in quantised],
        "frozen": frozen_parts(loaded),
    }


def test_the_language_model_alone_is_quantised(family: PictureFamily, made: Path) -> None:
    seen = call_warm(parts_of, str(made / "model"))

    # Seven layers in each of two blocks; the output layer stays whole, as in any model.
    assert len(seen["quantised"]) == 14
    assert not [name for name in seen["quantised"] if "vis" in name or "connector" in name]
    assert len([name for name in seen["whole"] if "vis" in name]) > 4
    beside = [name for name in seen["whole"] if name != "lm_head"]
    for name in beside:
        assert any(name == part or name.startswith(f"{part}.") for part in seen["frozen"]), name


def refusal_without(library: str, model: str) -> list[str]:
    """What loading the processor says in a process that has no such library."""
    import sys

    sys.modules[library] = None  # type: ignore[assignment]  # as if it were not installed
    from trainer_svc.child.failure import RunFailed
    from trainer_svc.child.model import BaseModel
    from trainer_svc.child.vlm import load_processor

    try:
        load_processor(BaseModel("tiny", "", Path(model)))
    except RunFailed as error:
        return [error.cause, str(error), error.hint]
    return []


def test_a_processor_that_lacks_a_library_names_it(tmp_path: Path) -> None:
    write_rows(tmp_path, system=False)
    call_warm(picture_models.write_family, "smolvlm", str(tmp_path))

    cause, message, hint = call_warm(refusal_without, "num2words", str(tmp_path / "model"))

    assert cause == "FAILURE_CAUSE_ENVIRONMENT_INVALID"
    assert message.startswith("the processor of tiny needs num2words, which is not installed")
    assert hint.startswith("Install num2words")
