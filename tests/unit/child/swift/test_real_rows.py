"""Weights and thoughts of rows, as ms-swift itself reads the file that it is given."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from svckit.spec.wire import spec_from_proto
from svckit.swift import SwiftRun, swift_argv
from tests.support.eventually import eventually_sync
from tests.support.swift import swift_python
from tests.unit.child.swift.swift_runs import make_swift_folder
from trainer_svc.child.failure import RunFailed
from trainer_svc.child.run_spec import read_run_spec
from trainer_svc.child.spool import Spool
from trainer_svc.child.swift.data import SCRIPT, Prepass, SettledData, check_sources
from trainer_svc.child.swift.environment import STARTUP, looking_environment
from trainer_svc.child.swift.process import Program

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

# What carries loss, row by row, asked for without any of our code: the file is loaded as
# training loads it, and read with training's template.
LEARNT = """
import json, sys
from swift import get_processor, get_template
from swift.dataset import load_dataset
model, template_type, file = sys.argv[1:]
template = get_template(
    get_processor(model, model_type="qwen3"),
    template_type=template_type,
    loss_scale="default+ignore_empty_think" if template_type == "qwen3" else "default",
)
template.set_mode("train")
rows, _ = load_dataset([file], split_dataset_ratio=0.0, shuffle=False)
found, tokens = [], 0
for row in rows:
    encoded = template.encode(dict(row))
    pieces, piece = [], []
    for token, label in zip(encoded["input_ids"], encoded["labels"]):
        if label != -100:
            piece.append(token)
        elif piece:
            pieces.append(template.tokenizer.decode(piece))
            piece = []
    found.append([*pieces, template.tokenizer.decode(piece)] if piece else pieces)
    tokens += sum(label != -100 for label in encoded["labels"])
print(json.dumps([found, tokens]))
"""


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def two(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    one = answer("red box", **first)
    return {"messages": [user("hammer"), one, user("saw"), answer("blue shelf", **second)]}


THOUGHT = answer("red box", reasoning_content="look around")
ROWS: list[tuple[Any, list[str]]] = [
    (two({}, {}), ["red box<|im_end|>\n", "blue shelf<|im_end|>\n"]),
    (two({"weight": 0}, {}), ["blue shelf<|im_end|>\n"]),
    (two({"loss": False}, {"loss": True}), ["blue shelf<|im_end|>\n"]),
    (two({"loss": True}, {"loss": False}), ["red box<|im_end|>\n"]),
    (two({}, {"train": False}), ["red box<|im_end|>\n"]),
    (two({"loss_weight": 1.0}, {}), ["red box<|im_end|>\n", "blue shelf<|im_end|>\n"]),
    ({"messages": [user("hammer"), THOUGHT]},
     ["<think>\nlook around\n</think>\n\nred box<|im_end|>\n"]),
    ({"messages": [user("hammer"), THOUGHT, user("saw"), answer("blue shelf")]},
     ["<think>\nlook around\n</think>\n\nred box<|im_end|>\n", "blue shelf<|im_end|>\n"]),
]  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A file, and what the child says of it."""

    file: Path
    settled: SettledData


def look(root: Path, model: Path, rows: list[Any], template: str, **spec: Any) -> Look:
    """What the child does with the rows before ms-swift trains."""
    data = root / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"model_type": "qwen3", "template": template}
    folder = make_swift_folder(
        root / "job", model, data, swift_python(), spec={"swift": options, **spec}
    )
    run = read_run_spec(folder.path)
    cache = root / "cache"
    cache.mkdir()
    spool = Spool(root / "spool.jsonl")
    argv = [str(swift_python()), str(SCRIPT)]
    # Not by a Tree: that would end all processes below this one, those of other tests too.
    program = Program(argv, looking_environment(run, cache, False), root, asks=True)
    try:
        checked = check_sources(run, cache, spool)
        words = SwiftRun(str(root / "out"), train=checked.words("train"), text_only=False)
        command = swift_argv(spec_from_proto(run.spec), words, 4)[1:]
        settled = Prepass(program, run, spool).settle(checked, command)
    finally:
        if program.poll() is None:
            os.kill(program.pid, signal.SIGKILL)
        eventually_sync(lambda: program.poll() is not None, 10, "the look has ended")
        spool.close()
    return Look(checked.file("train"), settled)


def learnt_by_swift(model: Path, template: str, file: Path) -> tuple[list[list[str]], int]:
    argv = [str(swift_python()), "-c", LEARNT, str(model), template, str(file)]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(STARTUP),  # ms-swift imports torchvision, here without its extension
    }
    printed = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    pieces, tokens = json.loads(printed.stdout.splitlines()[-1])
    return pieces, tokens


def test_weights_and_thoughts_carry_the_loss_that_they_say(assets: Path, tmp_path: Path) -> None:
    found = look(tmp_path, assets / "model", [row for row, _ in ROWS], "qwen3")

    pieces, tokens = learnt_by_swift(assets / "model", "qwen3", found.file)

    assert pieces == [learnt for _, learnt in ROWS]
    (receipt,) = found.settled.receipts
    assert receipt.supervised_tokens == tokens
    assert (receipt.rows_kept, receipt.thoughts) == (len(ROWS), 2)
    assert receipt.turns_not_learnt == 4
    # The library that loads the file takes the types of its keys from its first 10 MB.
    written = [json.loads(line)["messages"] for line in found.file.read_text().splitlines()]
    answers = [one for messages in written for one in messages if one["role"] == "assistant"]
    assert {tuple(one) for one in answers} == {("role", "content", "loss")}


def test_a_template_without_marks_for_thoughts_refuses_them(assets: Path, tmp_path: Path) -> None:
    rows = [two({}, {})] * 9 + [{"messages": [user("hammer"), THOUGHT]}]

    with pytest.raises(RunFailed, match=r":10: .*a turn has a thought, .*'chatml'"):
        look(tmp_path, assets / "model", rows, "chatml")
    (tmp_path / "lenient").mkdir()
    lenient = look(tmp_path / "lenient", assets / "model", rows, "chatml", strict=False)

    (receipt,) = lenient.settled.receipts
    assert [(one.reason, one.count) for one in receipt.dropped] == [("refused_by_swift", 1)]
