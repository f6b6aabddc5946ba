"""Each kind of row that is published: trained on with the right turns, or refused by name.

The rows are made here, in the formats of public sets; no file of theirs is used.
"""

import csv
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs
import pytest
from PIL import Image
from tunewright.v1.feed_pb2 import DataPrepared

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.images import Pictures
from trainer_svc.child.receipts import KEYS_MAX, Tally, report
from trainer_svc.child.rows.formats import RowFormat
from trainer_svc.child.source_rows import CheckedRow, Rules, check_rows, file_source
from trainer_svc.child.spool import Spool

pytestmark = pytest.mark.filterwarnings("default")

USER = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
HUMAN = {"from": "human", "value": "q"}
GPT = {"from": "gpt", "value": "a"}
BOTH = [USER, ANSWER]
PREFERENCE = "this is preference data; this job learns by imitation"
LABELS = "this is data with good and bad answers"
TOOLS = "training with tools is not supported"
MEDIA = "videos and sounds are not supported"


@dataclass
class Checked:
    """What became of the rows of one file."""

    rows: list[CheckedRow]
    receipt: DataPrepared

    @property
    def learnt(self) -> list[str]:
        """What the assistant says with loss on it, of all rows."""
        return [
            turn.content
            for row in self.rows
            for turn in row.dialogue
            if turn.role == "assistant" and turn.learnt
        ]

    @property
    def ignored(self) -> dict[str, int]:
        return {one.key: one.rows for one in self.receipt.ignored_keys}

    @property
    def dropped(self) -> dict[str, int]:
        return {one.reason: one.count for one in self.receipt.dropped}


@dataclass
class Checker:
    folder: Path
    pictures: bool = False
    rules: dict[str, Any] = field(default_factory=dict)

    def lines(self, *rows: Any) -> Path:
        path = self.folder / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def check(self, path: Path, columns: Mapping[str, str] | None = None, **rules: Any) -> Checked:
        pictures = Pictures([self.folder], self.folder / "cache") if self.pictures else None
        source = file_source(str(path), path, "", "train", None, None, columns)
        tally = Tally("train", str(path), str(path), 64)
        found = list(check_rows(source, Rules(**rules, pictures=pictures), tally))
        return Checked(found, tally.receipt())

    def rows(self, *rows: Any, **rules: Any) -> Checked:
        return self.check(self.lines(*rows), **rules)


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    return Checker(tmp_path)


LEARNT: dict[str, tuple[Any, list[str]]] = {
    "OpenAI": ({"messages": [{"role": "system", "content": "s"}, *BOTH]}, ["a"]),
    "OpenAI, weights": (
        {"messages": [USER, {**ANSWER, "content": "no", "weight": 0}, USER, {**ANSWER, "loss": 1}]},
        ["a"],
    ),
    "OpenAI, developer and name": (
        {"messages": [{"role": "developer", "content": "s"}, {**USER, "name": "Ann"}, ANSWER]},
        ["a"],
    ),
    "ms-swift, loss": (
        {"messages": [USER, {**ANSWER, "loss": False, "content": "no"}, USER, ANSWER]},
        ["a"],
    ),
    "LLaMA-Factory v1": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0},
                {"role": "assistant", "content": [{"type": "text", "value": "a"}],
                 "loss_weight": 1.0},
            ]
        },
        ["a"],
    ),
    "axolotl, train": (
        {"conversations": [HUMAN, {**GPT, "value": "no", "train": False}, HUMAN, GPT]},
        ["a"],
    ),
    "a thought": ({"messages": [USER, {**ANSWER, "reasoning_content": "hm"}]}, ["a"]),
    "a thought within": (
        {"messages": [USER, {**ANSWER, "content": "<think>\nhm\n</think>\n\na"}]},
        ["<think>\nhm\n</think>\n\na"],
    ),
    "ShareGPT with a system": ({"conversations": [HUMAN, GPT], "system": "s"}, ["a"]),
    "ShareGPT without tools": ({"conversations": [HUMAN, GPT], "tools": "[]"}, ["a"]),
    "ms-swift": ({"query": "q", "response": "a", "history": [["q", "b"]]}, ["b", "a"]),
    "GSM8K": ({"question": "q", "answer": "a #### 3"}, ["a #### 3"]),
    "Dolly": ({"instruction": "q", "context": "c", "response": "a", "category": "x"}, ["a"]),
    "Alpaca": ({"instruction": "q", "input": "", "output": "a"}, ["a"]),
    "TRL": ({"prompt": "q", "completion": "a"}, ["a"]),
    "a classified text": ({"text": "a", "label": 1}, ["a"]),
    "a graded answer": ({"instruction": "q", "output": "a", "label": "easy"}, ["a"]),
    "LCCC": ({"dialog": ["q", "你 好"]}, ["你好"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEARNT)
def test_what_is_learnt_of_each_kind_of_row(checker: Checker, kind: str) -> None:
    row, learnt = LEARNT[kind]

    checked = checker.rows(row)

    assert checked.learnt == learnt


REFUSED: dict[str, tuple[Any, str]] = {
    "LLaMA-Factory DPO": ({"conversations": [HUMAN], "chosen": GPT, "rejected": GPT}, PREFERENCE),
    "its history of several turns": (
        {"conversations": [HUMAN, GPT, HUMAN], "chosen": GPT, "rejected": GPT},
        PREFERENCE,
    ),
    "LLaMA-Factory v1 DPO": ({"chosen_messages": BOTH, "rejected_messages": BOTH}, PREFERENCE),
    "TRL DPO": ({"prompt": "q", "chosen": "a", "rejected": "b"}, PREFERENCE),
    "hh-rlhf": ({"chosen": "Human: q", "rejected": "Human: q"}, PREFERENCE),
    "Alpaca DPO": ({"instruction": "q", "chosen": "a", "rejected": "b"}, PREFERENCE),
    "ms-swift DPO": ({"messages": BOTH, "rejected_response": "b"}, PREFERENCE),
    "ms-swift DPO of dialogues": ({"messages": BOTH, "rejected_messages": BOTH}, PREFERENCE),
    "UltraFeedback": (
        {"prompt": "q", "messages": BOTH, "chosen": BOTH, "rejected": BOTH, "score_chosen": 9.0},
        PREFERENCE,
    ),
    "OpenAI DPO": (
        {"input": {"messages": [USER]}, "preferred_output": BOTH, "non_preferred_output": BOTH},
        PREFERENCE,
    ),
    "PKU-SafeRLHF": (
        {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 1},
        PREFERENCE,
    ),
    "LLaMA-Factory KTO": ({"messages": BOTH, "label": False}, LABELS),
    "LLaMA-Factory KTO, good": ({"messages": BOTH, "label": True}, LABELS),
    "LLaMA-Factory KTO tag": ({"messages": BOTH, "kto_tag": True}, LABELS),
    "TRL KTO": ({"prompt": "q", "completion": "a", "label": False}, LABELS),
    "KTO with numbers": ({"prompt": "q", "completion": "a", "label": 1.0}, LABELS),
    "KTO with names of truth": ({"instruction": "q", "output": "a", "label": "False"}, LABELS),
}
UNSUPPORTED: dict[str, tuple[Any, str, str]] = {
    "tools without a call": ({"messages": BOTH, "tools": [{}]}, TOOLS, "unsupported_tools"),
    "tools as JSON text": (
        {"conversations": [HUMAN, GPT], "tools": '[{"name": "f"}]'},
        TOOLS,
        "unsupported_tools",
    ),
    "OpenAI tool calls": (
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
        TOOLS,
        "unsupported_tools",
    ),
    "OpenAI function calls": (
        {"messages": [USER, {**ANSWER, "content": "", "function_call": {"name": "f"}}]},
        TOOLS,
        "unsupported_tools",
    ),
    "OpenAI functions": ({"messages": BOTH, "functions": [{}]}, TOOLS, "unsupported_tools"),
    "tool turns": (
        {"messages": [USER, {"role": "tool", "content": "3"}, ANSWER]},
        TOOLS,
        "unsupported_tools",
    ),
    "glaive": (
        {"conversations": [HUMAN, {"from": "function_call", "value": "{}"}, GPT], "tools": "[]"},
        TOOLS,
        "unsupported_tools",
    ),
    "videos": (
        {"messages": [{**USER, "content": "<video>q"}, ANSWER], "videos": ["a.mp4"]},
        MEDIA,
        "unsupported_media",
    ),
    "sounds": ({"messages": BOTH, "audios": ["a.mp3"]}, MEDIA, "unsupported_media"),
    "a video part": (
        {"messages": [{**USER, "content": [{"type": "video", "video": "a.mp4"}]}, ANSWER]},
        MEDIA,
        "unsupported_media",
    ),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", REFUSED)
def test_data_of_another_kind_is_refused_as_a_whole(
    checker: Checker, kind: str, strict: bool
) -> None:
    row, words = REFUSED[kind]
    path = checker.lines({"messages": BOTH}, {"messages": BOTH}, row)

    with pytest.raises(RunFailed, match=words) as caught:
        checker.check(path, strict=strict)

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(caught.value).startswith(f"{path}:3: the key")
    with pytest.raises(RunFailed, match=words):
        checker.rows(row, strict=strict)


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_rows_that_cannot_be_learnt_are_refused_or_counted(checker: Checker, kind: str) -> None:
    row, words, reason = UNSUPPORTED[kind]
    path = checker.lines(row, {"messages": BOTH} if "messages" in row else {
        "conversations": [HUMAN, GPT]
    })  # fmt: skip

    with pytest.raises(RunFailed, match=f"{path}:1: .*{words}") as caught:
        checker.check(path)
    left = checker.check(path, strict=False)

    assert "set strict to false" in caught.value.hint
    assert left.dropped == {reason: 1}
    assert left.learnt == ["a"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q", "completion": "a", "label": False}, LABELS),
        ({"instruction": "q", "output": "a", "rejected": "b"}, PREFERENCE),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "expected|preference"),
    ],
)
def test_tables_are_refused_as_well(checker: Checker, kind: str, row: Any, words: str) -> None:
    path = checker.folder / f"data.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([list(row), list(row.values())])
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)

    with pytest.raises(RunFailed, match=words):
        checker.check(path, strict=False)


def test_the_answers_to_imitate_can_be_named(checker: Checker) -> None:
    row = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    columns = {"completion": "chosen"}

    checked = checker.check(checker.lines(row), columns)

    assert checked.learnt == ["good"]
    assert checked.ignored == {"rejected": 1}
    assert dict(checked.receipt.columns) == columns
    with pytest.raises(RunFailed, match=LABELS):
        checker.check(checker.lines({**row, "label": False}), columns)


def test_every_ignored_key_is_in_the_receipt(checker: Checker) -> None:
    rows = [
        {"messages": [{**USER, "id": 1}, ANSWER], "source": "x", "score": 0.5},
        {"messages": BOTH, "source": "x", "score": None, "tags": []},
        {"messages": BOTH, "source": "", "history": [["a", "b"]]},
    ]

    checked = checker.rows(*rows)

    assert checked.ignored == {"source": 2, "messages[].id": 1, "score": 1, "history": 1}


def test_a_tables_ignored_columns_are_counted_unread(checker: Checker) -> None:
    path = checker.folder / "data.parquet"
    pq.write_table(pa.table({"id": [1, 2], "question": ["q", "q"], "answer": ["a", "b"]}), path)

    checked = checker.check(path)

    assert checked.ignored == {"id": 2}
    assert checked.learnt == ["a", "b"]
    assert dict(checked.receipt.columns) == {"instruction": "question", "output": "answer"}


def test_ignored_keys_are_bounded(checker: Checker, tmp_path: Path) -> None:
    rows = [{"text": "a", **{f"{'k' * 5_000}{n}{at}": 1 for at in range(50)}} for n in range(3)]
    rows.append({"text": "a", "\ud800": 1})
    path = checker.lines(*rows)
    source = file_source(str(path), path, "", "train", None, None)
    tally = Tally("train", str(path), str(path), 64)
    list(check_rows(source, Rules(), tally))
    spool = Spool(tmp_path / "spool.jsonl")

    receipt = report(tally, spool)
    spool.close()

    assert len(receipt.ignored_keys) == KEYS_MAX
    assert receipt.ignored_keys_omitted_rows == 3
    assert max(len(one.key) for one in receipt.ignored_keys) == 64
    assert len((tmp_path / "spool.jsonl").read_bytes()) < 64 * 1024


def test_keys_that_most_rows_have_are_a_warning(checker: Checker, tmp_path: Path) -> None:
    path = checker.lines(*[{"text": "a", "often": 1, **({"half": 1} if n % 2 else {})}
                           for n in range(10)])  # fmt: skip
    source = file_source(str(path), path, "", "train", None, None)
    tally = Tally("train", str(path), str(path), 64)
    list(check_rows(source, Rules(), tally))
    spool = Spool(tmp_path / "spool.jsonl")

    report(tally, spool)
    spool.close()

    lines = (tmp_path / "spool.jsonl").read_text().splitlines()
    (event,) = [one["event"] for one in map(json.loads, lines) if "event" in one]
    assert (event["type"], event["severity"]) == ("ROW_KEYS_IGNORED", "SEVERITY_WARNING")
    assert event["details"]["keys"] == "often"
    assert str(path) in event["message"]


def test_what_was_learnt_and_what_not_is_counted(checker: Checker) -> None:
    rows = [
        {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "content": ""}]},
        {"messages": [USER, {**ANSWER, "content": "", "thinking": "hm"}]},
        {"messages": [USER, {**ANSWER, "weight": 0}]},
    ]

    checked = checker.rows(*rows, strict=False)

    receipt = checked.receipt
    assert (receipt.turns_not_learnt, receipt.thoughts, receipt.empty_answers) == (1, 1, 1)
    assert checked.dropped == {"no_supervised_tokens": 1}


def test_a_users_turn_cannot_be_learnt_where_only_the_assistants_are(checker: Checker) -> None:
    row = {"messages": [{**USER, "weight": 1}, ANSWER]}

    with pytest.raises(RunFailed, match='"weight" says to learn a user turn') as caught:
        checker.rows(row)

    assert "assistant_only_loss to false" in caught.value.hint
    assert checker.rows(row, assistant_only=False).learnt == ["a"]


def test_columns_that_are_not_there_fail_the_job_strict_or_not(checker: Checker) -> None:
    path = checker.lines({"q": "a", "r": "b"})

    with pytest.raises(RunFailed, match=f'{path}:1: has no "s", .*it has: q, r') as caught:
        checker.check(path, {"instruction": "q", "output": "s"}, strict=False)

    assert "Correct the columns" in caught.value.hint


def test_a_wrong_type_says_what_the_field_is_called(checker: Checker) -> None:
    path = checker.lines({"q": "a", "r": "b"}, {"q": "a", "r": 3})

    with pytest.raises(RunFailed, match=r':2: .*"output" with a string, .*output=r'):
        checker.check(path, {"instruction": "q", "output": "r"})


def test_pictures_in_parts_are_found_beside_the_file(tmp_path: Path) -> None:
    checker = Checker(tmp_path, pictures=True)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    in_base64 = b64encode((tmp_path / "a.png").read_bytes()).decode()
    data = f"data:image/png;base64,{in_base64}"
    parts = [
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "text", "text": "and"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "image": f"file://{tmp_path}/a.png"},
    ]

    (row,) = checker.rows({"messages": [{"role": "user", "content": parts}, ANSWER]}).rows

    assert row.dialogue[0].content == "<image>and<image><image>"
    aside, beside, named = row.images
    assert aside.read_bytes() == (tmp_path / "a.png").read_bytes()
    assert beside == named == tmp_path / "a.png"


def test_pictures_in_parts_and_beside_them_are_one_too_many(tmp_path: Path) -> None:
    checker = Checker(tmp_path, pictures=True)
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    marked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}
    named = {"role": "user", "content": [{"type": "image", "path": "a.png"}]}

    fine = checker.rows({"messages": [marked, ANSWER], "images": ["a.png"]})

    assert fine.rows[0].images == (tmp_path / "a.png",)
    with pytest.raises(RunFailed, match="in its contents and in"):
        checker.rows({"messages": [named, ANSWER], "images": ["a.png"]})
    with pytest.raises(RunFailed, match="not fetched from the network"):
        url = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        checker.rows({"messages": [{"role": "user", "content": [url]}, ANSWER]})


def test_a_picture_part_needs_a_model_that_sees(checker: Checker) -> None:
    named = {"role": "user", "content": [{"type": "image", "path": "a.png"}]}

    with pytest.raises(RunFailed, match="the row has pictures") as caught:
        checker.rows({"messages": [named, ANSWER]}, strict=False)

    assert "model_kind to vlm" in caught.value.hint


def test_nested_tables_are_read_as_their_rows(checker: Checker) -> None:
    rows = [
        {"messages": [{**USER, "weight": None, "thinking": None},
                      {**ANSWER, "weight": 0.0, "thinking": "hm"},
                      {**USER, "weight": None, "thinking": None},
                      {**ANSWER, "weight": None, "thinking": None}]},
    ]  # fmt: skip
    path = checker.folder / "data.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)

    checked = checker.check(path)

    assert checked.learnt == ["a"]
    assert checked.rows[0].dialogue[1].thought == "hm"
    assert checked.ignored == {}


def test_a_format_and_columns_that_the_job_names_go_together(tmp_path: Path) -> None:
    path = Checker(tmp_path).lines({"text": "no", "q": "q", "a": "a"})
    columns = {"instruction": "q", "output": "a"}
    source = file_source(str(path), path, "", "train", RowFormat.ALPACA, None, columns)

    (row,) = check_rows(source, Rules(), Tally("train", "x", "x", 64))

    assert [turn.content for turn in row.dialogue] == ["q", "a"]
