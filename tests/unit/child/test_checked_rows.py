"""Rows of every format, checked and written in one form."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs
import pytest
from PIL import Image
from tunewright.v1.spec_pb2 import DATA_FORMAT_ALPACA, DATA_FORMAT_TEXT

from tests.unit.child.run_folders import make_run_folder
from trainer_svc.child.checked_rows import CheckedPart, write_checked
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.run_spec import RunSpec, read_run_spec
from trainer_svc.child.spool import Spool

pytestmark = pytest.mark.filterwarnings("default")

QUESTION = {"role": "user", "content": "q"}
ANSWER = {"role": "assistant", "content": "a"}
BOTH = [QUESTION, ANSWER]


class Checking:
    """One run's data, and what is made of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root / "spool.jsonl")
        (root / "data").mkdir()

    def data(self, name: str) -> Path:
        return self.root / "data" / name

    def lines(self, *rows: Any, name: str = "data.jsonl") -> Path:
        path = self.data(name)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def run(self, *sources: Path | str, **fields: Any) -> RunSpec:
        first, *more = map(str, sources)
        folder = make_run_folder(
            self.root, "owner/model", first, more_train=tuple(more), spec_fields=fields,
            system_prompt=fields.pop("system_prompt", ""), roots=(self.root / "data",),
        )  # fmt: skip
        return read_run_spec(folder.path)

    def write(self, *sources: Path | str, **fields: Any) -> CheckedPart:
        run = self.run(*sources, **fields)
        part = write_checked(run, "train", self.root / "cache", self.spool)
        assert part is not None
        return part

    def told(self) -> list[dict[str, Any]]:
        lines = (self.root / "spool.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry["data_prepared"] for entry in entries if "data_prepared" in entry]


@pytest.fixture
def checking(tmp_path: Path) -> Any:
    checking = Checking(tmp_path)
    yield checking
    checking.spool.close()


def rows_of(part: CheckedPart) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in part.path.read_text("utf-8").splitlines()]
    assert len(rows) == part.rows
    return rows


def write_json(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def write_lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path: Path, rows: list[Any]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            cells = {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in row.items()
            }
            writer.writerow(cells)


def write_parquet(path: Path, rows: list[Any]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS = {"json": write_json, "jsonl": write_lines, "csv": write_csv, "parquet": write_parquet}
SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
FORMS: dict[str, tuple[Any, list[Any]]] = {
    "messages": ({"messages": BOTH}, BOTH),
    "lccc": ({"dialog": ["q", "a"]}, BOTH),
    "alpaca": ({"instruction": "q", "input": "", "output": "a"}, BOTH),
    "alpaca with history": (
        {"instruction": "q", "input": "i", "output": "a", "history": [["q", "a"]]},
        [*BOTH, {"role": "user", "content": "q\ni"}, ANSWER],
    ),
    "sharegpt": ({"conversations": SHAREGPT}, BOTH),
    "prompt and completion": ({"prompt": "q", "completion": "a"}, BOTH),
    "prompt and completion as messages": (
        {"prompt": BOTH, "completion": BOTH},
        [QUESTION, {**ANSWER, "loss": False}, QUESTION, ANSWER],
    ),
    "text": ({"text": "a"}, [ANSWER]),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("form", FORMS)
def test_each_format_in_each_kind_of_file(checking: Checking, kind: str, form: str) -> None:
    row, messages = FORMS[form]
    path = checking.data(f"data.{kind}")
    WRITERS[kind](path, [row, row, row])

    part = checking.write(f"{path}#2")

    rows = rows_of(part)
    assert [one["messages"] for one in rows] == [messages] * 2
    assert part.text_only is (form == "text")
    assert part.tallies[0].rows_read == 2
    unit = "row " if kind == "parquet" else ""
    places = [one["place"] for one in rows]
    assert all(place.startswith(f"{path}:{unit}") for place in places)
    assert len(set(places)) == 2


def test_sources_follow_each_other_each_with_its_own_number(checking: Checking) -> None:
    one = checking.lines({"text": "1"}, {"text": "2"}, {"text": "3"}, name="one.jsonl")
    two = checking.lines({"text": "4"}, {"text": "5"}, name="two.jsonl")

    part = checking.write(f"{one}#2", two, f"{one}#1")

    texts = [row["messages"][0]["content"] for row in rows_of(part)]
    assert texts == ["1", "2", "4", "5", "1"]
    assert [tally.rows_read for tally in part.tallies] == [2, 2, 1]
    owners = [part.tally_of(row) for row in range(part.rows)]
    first, second, third = part.tallies
    assert [owner is tally for owner, tally in zip(
        owners, [first, first, second, second, third], strict=True
    )] == [True] * 5  # fmt: skip


def test_the_first_n_rows_are_those_read_not_those_kept(checking: Checking) -> None:
    path = checking.lines({"text": ""}, {"text": "2"}, {"text": "3"})

    part = checking.write(f"{path}#2", max_dropped_fraction=0.5)

    assert [row["messages"][0]["content"] for row in rows_of(part)] == ["2"]
    assert (part.tallies[0].rows_read, part.tallies[0].rows_kept) == (2, 1)


def test_what_follows_the_first_n_rows_is_not_looked_at(checking: Checking) -> None:
    path = checking.data("data.json")
    path.write_text('[{"text": "a"},\n{"text": "b"},\n{"text" broken')

    part = checking.write(f"{path}#2")

    assert part.rows == 2


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("limit", ["", "#1"])
def test_no_file_stays_open(checking: Checking, kind: str, limit: str) -> None:
    path = checking.data(f"data.{kind}")
    WRITERS[kind](path, [{"text": "a"}, {"text": "b"}])
    held = []

    checking.write(f"{path}{limit}")
    held.append(open_files())
    run = read_run_spec(checking.root / "runs" / "j" / "1")
    run.spec.train_data[0].format = DATA_FORMAT_ALPACA
    with pytest.raises(RunFailed) as caught:  # kept, and with it whatever its frames hold
        write_checked(run, "train", checking.root / "cache", checking.spool)
    held.append(open_files())

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(path) not in held[0] | held[1]


def open_files() -> set[str]:
    return {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}


def test_a_part_without_sources_is_none(checking: Checking) -> None:
    run = checking.run(checking.lines({"text": "a"}))

    assert write_checked(run, "eval", checking.root / "cache", checking.spool) is None


def test_texts_and_dialogues_are_not_mixed(checking: Checking) -> None:
    texts = checking.lines({"text": "a"}, name="texts.jsonl")
    chats = checking.lines({"messages": BOTH}, name="chats.jsonl")

    with pytest.raises(RunFailed) as caught:
        checking.write(chats, texts)

    assert f"{texts}:1 is a plain text, and {chats}:1 is a dialogue" in str(caught.value)
    assert caught.value.cause is Cause.DATASET_INVALID


def test_placeholders_are_left_as_they_are(checking: Checking) -> None:
    path = checking.lines({"instruction": "hi", "output": "I am {{name}} of {{author}}."})

    part = checking.write(path)

    assert rows_of(part)[0]["messages"][1]["content"] == "I am {{name}} of {{author}}."


SOUND = {"messages": BOTH}
MALFORMED: list[tuple[str, str]] = [
    ('{"messages": [', "malformed JSON"),
    ("5", "expected"),
    (json.dumps({"conversations": SHAREGPT}), '"messages" with a list'),
    (json.dumps({"messages": [{"role": "me", "content": "x"}]}), "unknown role"),
    ('{"messages": [{"role": "assistant", "content": "\\ud83d"}]}', "half a character"),
]


@pytest.mark.parametrize(("line", "message"), MALFORMED)
def test_a_malformed_row_fails_a_strict_job_with_its_line(
    checking: Checking, line: str, message: str
) -> None:
    path = checking.lines(*[SOUND] * 10)
    path.write_text(path.read_text() + line + "\n")

    with pytest.raises(RunFailed, match=message) as caught:
        checking.write(path)

    assert str(caught.value).startswith(f"{path}:11: ")
    assert "strict" in caught.value.hint
    assert caught.value.cause is Cause.DATASET_INVALID


@pytest.mark.parametrize(("line", "message"), MALFORMED)
def test_a_malformed_row_is_counted_when_the_job_is_not_strict(
    checking: Checking, line: str, message: str
) -> None:
    path = checking.lines(*[SOUND] * 9)
    path.write_text(path.read_text().replace("\n", f"\n{line}\n", 1))

    part = checking.write(path, strict=False)

    assert part.rows == 9
    receipt = part.tallies[0].receipt()
    assert (receipt.rows_read, receipt.rows_kept) == (10, 9)
    assert [(entry.reason, entry.count, list(entry.places)) for entry in receipt.dropped] == [
        ("malformed", 1, [f"{path}:2"])
    ]
    assert checking.told() == []  # rows may still be left out


def test_broken_json_of_a_list_fails_strict_or_not(checking: Checking) -> None:
    path = checking.data("data.json")
    path.write_text(json.dumps([SOUND] * 20, indent=0)[:-2])

    with pytest.raises(RunFailed, match="malformed JSON"):
        checking.write(path, strict=False)


def test_more_left_out_than_allowed_fails_with_the_receipts_told(checking: Checking) -> None:
    good = checking.lines(SOUND, name="good.jsonl")
    bad = checking.lines(SOUND, {"messages": []}, {"messages": 3}, SOUND, name="bad.jsonl")

    with pytest.raises(RunFailed) as caught:
        checking.write(good, bad, strict=False, max_dropped_fraction=0.4)

    message = str(caught.value)
    assert f"2 of 4 rows of {bad} (50.00%) are left out" in message
    assert f"empty: 1 ({bad}:2)" in message
    assert f"malformed: 1 ({bad}:3)" in message
    assert [entry["rows_kept"] for entry in checking.told()] == ["1", "2"]


def test_a_tenth_may_be_left_out_unless_the_spec_says_otherwise(checking: Checking) -> None:
    path = checking.lines(*[SOUND] * 9, {"messages": []})

    assert checking.write(path).rows == 9
    path.write_text(path.read_text() + '{"messages": []}\n')

    with pytest.raises(RunFailed, match=r"max_dropped_fraction = 0\.1"):
        write_checked(
            read_run_spec(checking.root / "runs" / "j" / "1"),
            "train",
            checking.root / "cache",
            checking.spool,
        )


def picture(path: Path) -> Path:
    Image.new("RGB", (4, 4), "red").save(path)
    return path


def seen(*images: Any, marks: int = 1) -> dict[str, Any]:
    asked = {"role": "user", "content": "<image>" * marks + "What is it?"}
    return {"messages": [asked, ANSWER], "images": list(images)}


def test_rows_with_pictures_name_them_absolutely(checking: Checking) -> None:
    there = picture(checking.data("a.png"))
    chats = checking.lines(seen("a.png"), SOUND, seen("a.png", str(there), marks=2))
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "a"}]
    llava = checking.lines({"image": "a.png", "conversations": turns}, name="llava.jsonl")

    part = checking.write(chats, llava, model_kind="MODEL_KIND_VLM")

    rows = rows_of(part)
    assert [row.get("images") for row in rows] == [
        [str(there)],
        None,
        [str(there), str(there)],
        [str(there)],
    ]
    assert rows[0]["messages"][0]["content"] == "<image>What is it?"


def test_pictures_in_parquet_are_written_aside(checking: Checking) -> None:
    data = picture(checking.data("a.png")).read_bytes()
    path = checking.data("data.parquet")
    write_parquet(
        path, [seen({"bytes": data, "path": None}), seen({"bytes": None, "path": "a.png"})]
    )

    part = checking.write(path, model_kind="MODEL_KIND_VLM")

    aside, beside = (Path(row["images"][0]) for row in rows_of(part))
    assert aside.is_relative_to(checking.root / "cache")
    assert aside.read_bytes() == data
    assert beside == checking.data("a.png")


def test_a_row_with_pictures_is_refused_where_the_model_reads_text(checking: Checking) -> None:
    picture(checking.data("a.png"))
    path = checking.lines(SOUND, seen("a.png"))

    with pytest.raises(RunFailed, match=f"{path}:2: the row has pictures") as caught:
        checking.write(path, strict=False)

    assert "model_kind to vlm" in caught.value.hint


def cut_off(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-500])


BROKEN_PICTURES: list[tuple[dict[str, Any], str]] = [
    (seen("none.png"), "image_missing"),
    (seen("../../etc/hostname"), "image_missing"),
    (seen("cut.png"), "image_broken"),
    (seen("a.png", "a.png"), "images_do_not_match"),
    (seen(), "images_do_not_match"),
    (seen("https://example.com/a.png"), "malformed"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN_PICTURES)
def test_pictures_that_cannot_be_used_are_counted_or_fail_the_job(
    checking: Checking, row: Any, reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    picture(checking.data("a.png"))
    cut_off(checking.data("cut.png"))
    path = checking.lines(*[seen("a.png")] * 9, row)
    run = checking.run(path, model_kind="MODEL_KIND_VLM", strict=False)

    part = write_checked(run, "train", checking.root / "cache", checking.spool)

    assert part is not None
    assert part.rows == 9
    assert part.tallies[0].dropped[reason].places == [f"{path}:10"]
    run.spec.strict = True
    with pytest.raises(RunFailed) as caught:
        write_checked(run, "train", checking.root / "cache", checking.spool)
    assert str(caught.value).startswith(f"{path}:10: ")


def test_a_path_outside_the_roots_is_refused_before_anything_is_read(checking: Checking) -> None:
    outside = checking.root / "outside.jsonl"
    outside.write_text(json.dumps(SOUND))

    with pytest.raises(RunFailed, match="outside the data roots"):
        checking.write(checking.lines("broken"), outside)


def test_rows_are_read_as_the_source_says(checking: Checking) -> None:
    path = checking.lines({"messages": BOTH, "text": "t"})
    run = checking.run(path)
    run.spec.train_data[0].format = DATA_FORMAT_TEXT

    part = write_checked(run, "train", checking.root / "cache", checking.spool)

    assert part is not None
    assert part.text_only
    assert rows_of(part)[0]["messages"] == [{"role": "assistant", "content": "t"}]
