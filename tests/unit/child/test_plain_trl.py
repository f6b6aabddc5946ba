"""What the project trains is what a plain script with TRL trains: the same loss at each step."""

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.child.launching import launch
from tests.unit.child.run_folders import RunFolder, make_run_folder

pytestmark = [pytest.mark.training, pytest.mark.timeout(240)]

SCRIPT = Path(__file__).parents[2] / "plain" / "plain_trl.py"
FAMILIES = ["qwen", "llama", "mistral", "phi"]
STEPS = 15
WORDS = "river stone cloud lamp copper garden seven winter paper bridge green letter"


def dialogues(weighted: bool) -> list[dict[str, Any]]:
    """Dialogues of one to four turns; with weights, some answers are there to be read only."""
    chance = random.Random(5)
    rows = []
    for _ in range(40):
        messages: list[dict[str, Any]] = []
        turns = chance.randint(1, 4)
        for _ in range(turns):
            messages.append({"role": "user", "content": _sentence(chance) + "?"})
            messages.append({"role": "assistant", "content": _sentence(chance) + "."})
        if weighted:
            for message in messages[1::2]:
                message["weight"] = chance.choice([0, 1])
            messages[-1]["weight"] = 1
        rows.append({"messages": messages})
    return rows


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS.split(), k=chance.randint(2, 7))).capitalize()


@dataclass(frozen=True)
class Plain:
    """What the script made and printed. `models` has a folder for each family."""

    models: Path
    data: Sequence[Path]
    trained: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """The script, run in a process that may import nothing of the project."""
    folder = tmp_path_factory.mktemp("plain")
    data = [folder / "plain.jsonl", folder / "weights.jsonl"]
    for path, weighted in zip(data, (False, True), strict=True):
        lines = (f"{json.dumps(row)}\n" for row in dialogues(weighted))
        path.write_text("".join(lines), encoding="utf-8")
    argv = [sys.executable, "-P", str(SCRIPT), str(folder), *map(str, data)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=230, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Plain(folder, data, json.loads(done.stdout.splitlines()[-1]))


def ours(root: Path, model: Path, data: Path) -> RunFolder:
    folder = make_run_folder(
        root,
        model,
        data,
        max_steps=str(STEPS),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        warmup_ratio=0.1,
        logging_steps=1,
        bf16=False,
    )
    assert launch(folder).wait() == 0, folder.result
    return folder


def test_the_script_shares_no_code_with_the_project() -> None:
    text = SCRIPT.read_text(encoding="utf-8")

    assert not [word for word in ("trainer_svc", "svckit", "tunewright", "tests.") if word in text]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weights"])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_steps_loss_is_that_of_a_plain_script(
    plain: Plain, tmp_path: Path, family: str, weighted: bool
) -> None:
    theirs = plain.trained[family][weighted]

    folder = ours(tmp_path, plain.models / family, plain.data[weighted])

    (receipt,) = folder.entries("data_prepared")
    losses = folder.losses()
    assert int(receipt["supervised_tokens"]) == theirs["learnt"]
    assert len(theirs["losses"]) == len(losses) == STEPS
    for step, loss in enumerate(theirs["losses"], start=1):
        assert losses[step] == pytest.approx(loss, abs=1e-5), f"step {step}"
    assert losses[STEPS] < losses[1]


def test_weights_are_part_of_the_comparison(plain: Plain) -> None:
    for family in FAMILIES:
        unweighted, weighted = plain.trained[family]
        assert 0 < weighted["learnt"] < unweighted["learnt"]
