"""Tiny models of the families of texts.py, trained with QLoRA as a job trains them.

A run takes a few seconds; those that show something of their own run always, the others with
`-m full`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.child.families import text_models
from tests.unit.child.families.test_text_families import require_packages
from tests.unit.child.families.texts import BY_NAME, FAMILIES, FIRST, LAST, NO_SYSTEM, TextFamily
from tests.unit.child.launching import call_warm, launch
from tests.unit.child.run_folders import make_run_folder
from trainer_svc.child.manifest import prove

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

OFTEN = {"qwen3_first", "mistral_v3", "gemma2", "phi3"}
PARAMETERS = [
    pytest.param(family, id=family.name, marks=() if family.name in OFTEN else pytest.mark.full)
    for family in FAMILIES
]


def rows_for(family: TextFamily) -> list[dict[str, Any]]:
    """Dialogues with one answer and with two, and with a system message where there may be one."""
    rows: list[dict[str, Any]] = []
    for number in range(8):
        single = [
            {"role": "user", "content": f"Hi there {number}"},
            {"role": "assistant", "content": LAST},
        ]
        two = [
            {"role": "user", "content": f"Where is it? {number}"},
            {"role": "assistant", "content": FIRST},
            *single,
        ]
        rows += [{"messages": single}, {"messages": two}]
        if family.of("system") != NO_SYSTEM:
            rows.append({"messages": [{"role": "system", "content": "Be brief."}, *two]})
    return rows


@pytest.mark.parametrize("family", PARAMETERS)
def test_the_family_trains(family: TextFamily, tmp_path: Path) -> None:
    require_packages(family)
    model, data = tmp_path / "model", tmp_path / "rows.jsonl"
    call_warm(text_models.write_family, family.name, str(model))
    rows = rows_for(family)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = make_run_folder(
        tmp_path, model, data, max_steps="6", max_length=512, logging_steps=1, bf16=False
    )

    process = launch(folder)

    assert process.wait() == 0, process.output()
    losses = folder.losses()
    assert sum(losses[step] for step in (5, 6)) < sum(losses[step] for step in (1, 2))
    (receipt,) = folder.entries("data_prepared")
    assert int(receipt["rows_kept"]) == len(rows)
    prove(folder.staging)


def test_a_system_prompt_without_a_role_for_it_fails_before_any_row(tmp_path: Path) -> None:
    family = BY_NAME["gemma2"]
    require_packages(family)
    model, data = tmp_path / "model", tmp_path / "rows.jsonl"
    call_warm(text_models.write_family, family.name, str(model))
    data.write_text("this is never read\n")
    folder = make_run_folder(tmp_path, model, data, system_prompt="Be brief.")

    process = launch(folder)

    assert process.wait() != 0
    failure = folder.result["failure"]
    assert failure["cause"] == "FAILURE_CAUSE_CONFIG_INVALID"
    assert "has no system role" in failure["message"]
    assert "Leave out system_prompt" in failure["hint"]
