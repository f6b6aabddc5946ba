"""The families that ms-swift reads pictures with, trained with it for a few steps.

The masks are asked of ms-swift's own template, and held against what the rows
say. Models have the published numbers of special tokens: ms-swift goes by them.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from svckit.recipes import SHIPPED, resolve
from svckit.spec.wire import spec_to_proto
from tests.support.swift import swift_python
from tests.unit.child.families import picture_models
from tests.unit.child.families.picture_rows import write_rows
from tests.unit.child.families.pictures import BY_NAME, FAMILIES, OFTEN_WITH_SWIFT, PictureFamily
from tests.unit.child.launching import call_warm
from tests.unit.child.run_folders import RunFolder
from tests.unit.child.swift.swift_runs import SwiftChild, make_swift_folder
from trainer_svc.child.manifest import prove
from trainer_svc.child.swift.environment import STARTUP
from trainer_svc.domain.classify import EndFacts, ExitRecord, classify
from trainer_svc.domain.runs import Cause

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]
# Each takes 20 seconds and more.
PARAMETERS = [
    pytest.param(family.name, marks=() if family.name in OFTEN_WITH_SWIFT else pytest.mark.full)
    for family in FAMILIES
    if family.swift is not None and family.name != "qwen2_5_vl"  # see the recipe
]
LEARNT = """
import json, sys
from swift import get_processor, get_template
model, model_type, template_type, rows = sys.argv[1:]
processor = get_processor(model, model_type=model_type)
template = get_template(processor, template_type=template_type)
template.set_mode("train")
told = []
for line in open(rows):
    encoded = template.encode(json.loads(line))
    runs = [[]]
    for label in encoded["labels"]:
        if label != -100:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    tokens = len(encoded["labels"])
    told.append([[template.tokenizer.decode(run) for run in runs if run], tokens])
print(json.dumps(told))
"""


def made_with(family: PictureFamily, folder: Path) -> Path:
    """The file of rows in `folder`, beside model/; pictures by their whole paths."""
    rows = write_rows(folder, family.takes_system)
    call_warm(picture_models.write_family, family.name, str(folder), True)
    whole = [
        {**row, "images": [str(folder / name) for name in row.get("images", [])]}
        for row in picture_models.rows_of(rows)
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in whole))
    return rows


def trained(folder: RunFolder) -> RunFolder:
    child = SwiftChild(folder)
    assert child.wait() == 0, child.output
    return folder


def check_masks(family: PictureFamily, rows: Path, receipt: Mapping[str, Any]) -> None:
    assert family.swift is not None
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": str(STARTUP), "MAX_PIXELS": "1003520"}
    words = [str(rows.parent / "model"), *family.swift, str(rows)]
    done = subprocess.run(
        [str(swift_python()), "-c", LEARNT, *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told) == int(receipt["rows_kept"]) > 25
    assert sum(tokens for _, tokens in told) == int(receipt["tokens"])
    for row, (learnt, _) in zip(picture_models.rows_of(rows), told, strict=True):
        said = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
        assert len(learnt) == len(said)
        for words_of_turn, expected in zip(learnt, said, strict=True):
            assert words_of_turn.strip().startswith(expected)
            rest = words_of_turn.strip().removeprefix(expected).strip()
            assert rest in ("", family.end, "</s>")


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_family_trains_with_ms_swift(name: str, tmp_path: Path) -> None:
    family = BY_NAME[name]
    assert family.swift is not None
    model_type, template = family.swift
    rows = made_with(family, tmp_path)

    folder = trained(
        make_swift_folder(
            tmp_path, tmp_path / "model", rows, swift_python(),
            spec={"swift": {"model_type": model_type, "template": template}},
            model_kind="MODEL_KIND_VLM", max_steps="6", max_length=512, bf16=False,
            per_device_train_batch_size=family.swift_batch, logging_steps=1,
        )
    )  # fmt: skip

    losses = folder.losses()
    assert losses[6] < losses[1]
    prove(folder.staging)
    (receipt,) = folder.entries("data_prepared")
    check_masks(family, rows, receipt)


def test_the_shipped_recipe_trains_a_tiny_model_of_its_family(tmp_path: Path) -> None:
    family = BY_NAME["qwen2_5_vl"]
    rows = made_with(family, tmp_path)
    given = {
        "train_data": [{"source": str(rows)}],
        "eval_data": [{"source": str(rows)}],
        "output_dir": "out",
        "resources": {"gpu_ids": ["0"]},
        "hyperparameters": {
            "max_steps": 3,
            "gradient_accumulation_steps": 2,
            "logging_steps": 1,
            "learning_rate": 1e-2,  # so that three steps show
        },
    }
    spec = spec_to_proto(resolve(SHIPPED["vlm-swift"].recipe, "vlm-swift", given))
    # What a test has: a small model, no GPU. All else is the recipe's.
    spec.model.name = str(tmp_path / "model")
    spec.hyperparameters.bf16 = False
    spec.hyperparameters.dataloader_num_workers = 0

    folder = trained(recipe_folder(tmp_path, rows, spec))

    losses = folder.losses()
    assert losses[3] < losses[1]
    prove(folder.staging)
    (receipt, _) = folder.entries("data_prepared")
    check_masks(family, rows, receipt)
    started = next(event for event in folder.entries("event") if event["type"] == "SWIFT_STARTED")
    assert "--max_pixels 1003520" in json.dumps(started)


def recipe_folder(root: Path, rows: Path, spec: Any) -> RunFolder:
    """A run folder with that spec, on the CPU."""
    from google.protobuf.json_format import MessageToDict

    fields = MessageToDict(spec, preserving_proto_field_name=True)
    fields["resources"] = {"accelerator": "ACCELERATOR_CPU"}
    return make_swift_folder(root, spec.model.name, rows, swift_python(), document={"spec": fields})


@pytest.mark.full
def test_a_family_without_a_type_is_refused(tmp_path: Path) -> None:
    rows = made_with(BY_NAME["smolvlm"], tmp_path)
    folder = make_swift_folder(
        tmp_path, tmp_path / "model", rows, swift_python(),
        spec={"swift": {}}, model_kind="MODEL_KIND_VLM", bf16=False,
    )  # fmt: skip

    child = SwiftChild(folder)

    assert child.wait() != 0
    ending = classify(EndFacts(ExitRecord(1, None, killed_by_us=False), tail=child.output))
    assert ending.failure is not None
    assert ending.failure.cause is Cause.CONFIG_INVALID
    assert "no suitable `model_type`" in ending.failure.message
    assert "qlora backend" in ending.failure.hint
