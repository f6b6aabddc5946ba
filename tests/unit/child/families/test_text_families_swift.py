"""What ms-swift learns of a dialogue with its own templates, for the families of texts.py.

One process asks ms-swift for all of them; with `-m full` for every family, else for three.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.swift import swift_python
from tests.unit.child.families import text_models
from tests.unit.child.families.test_text_families import DIALOGUE, require_packages
from tests.unit.child.families.texts import BY_NAME, NOT_IN_SWIFT, SWIFT
from tests.unit.child.launching import call_warm
from trainer_svc.child.dialogue import Message, as_chat
from trainer_svc.child.swift.environment import STARTUP

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(STARTUP)}
OFTEN = ("qwen3_first", "llama2", "phi3")
ROWS: dict[str, Sequence[Message]] = {
    "single": (DIALOGUE[0], DIALOGUE[3]),
    "dialogue": DIALOGUE,
    "system": (Message("system", "Be brief."), *DIALOGUE),
}
LEARNT = """
import json, sys
from swift import get_processor, get_template
rows = json.loads(sys.argv[2])
for name, folder, model_type, template_type in json.loads(sys.argv[1]):
    processor = get_processor(folder, model_type=model_type)
    template = get_template(processor, template_type=template_type)
    template.set_mode("train")
    learnt = {}
    for kind, messages in rows.items():
        encoded = template.encode({"messages": [dict(message) for message in messages]})
        runs = [[]]
        for label in encoded["labels"]:
            if label != -100:
                runs[-1].append(label)
            elif runs[-1]:
                runs.append([])
        learnt[kind] = [template.tokenizer.decode(run) for run in runs if run]
    print(json.dumps([name, learnt]))
"""


@pytest.mark.parametrize(
    "names", [OFTEN, pytest.param(tuple(SWIFT), marks=pytest.mark.full)], ids=["three", "all"]
)
def test_ms_swift_learns_what_the_model_writes(names: Sequence[str], tmp_path: Path) -> None:
    asked = []
    for name in names:
        require_packages(BY_NAME[name])
        call_warm(text_models.write_family, name, str(tmp_path / name))
        family = SWIFT[name]
        asked.append([name, str(tmp_path / name), family.model_type, family.template])
    rows = json.dumps({kind: as_chat(row) for kind, row in ROWS.items()})

    done = subprocess.run(
        [str(swift_python()), "-c", LEARNT, json.dumps(asked), rows],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith('["'))
    for name in names:
        assert {kind: tuple(learnt) for kind, learnt in found[name].items()} == SWIFT[name].learnt


def test_each_family_is_tried_with_ms_swift_or_said_to_be_missing() -> None:
    assert set(SWIFT) | set(NOT_IN_SWIFT) == set(BY_NAME)
    assert not set(SWIFT) & set(NOT_IN_SWIFT)
