"""Data sets from a hub: their parts and formats, and the commit that they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # no stubs
import pytest

from tests.integration.hub.hub_runs import TOKEN, Downloader
from tests.support.hub_server import HubServer, running_hub


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running_hub() as running:
        yield running


@pytest.fixture
def host(hub: HubServer, tmp_path: Path) -> Downloader:
    return Downloader(tmp_path / "host", hub.url)


def dialogue(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]}


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_list(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


ROWS = [dialogue("one"), dialogue("two")]
PAIRS = [{"prompt": "one", "completion": "ok"}, {"prompt": "two", "completion": "ok"}]


@pytest.mark.parametrize(
    ("name", "written", "rows"),
    [
        ("train.jsonl", as_lines(ROWS), ROWS),
        ("train.json", as_list(ROWS), ROWS),
        ("data/train-00000-of-00001.parquet", as_parquet(ROWS), ROWS),
        ("train.csv", as_csv(PAIRS), PAIRS),
    ],
)
def test_rows_come_as_they_were_written_in_each_format(
    hub: HubServer, host: Downloader, name: str, written: bytes, rows: list[dict[str, Any]]
) -> None:
    commit = hub.publish("acme/talk", {name: written}, kind="datasets")

    got = host.run("acme/talk", split="train")

    assert got["commit"] == commit
    assert got["rows"] == [[1, rows[0]], [2, rows[1]]]


def test_a_key_that_only_some_rows_have_stays_absent_in_the_others(
    hub: HubServer, host: Downloader
) -> None:
    rows = [{**dialogue("one"), "images": ["a.png"]}, dialogue("two")]
    hub.publish("acme/talk", {"train.jsonl": as_lines(rows)}, kind="datasets")

    got = host.run("acme/talk", split="train")

    assert [row for _, row in got["rows"]] == rows


def test_only_the_files_of_the_part_come(hub: HubServer, host: Downloader) -> None:
    files = {"train.jsonl": as_lines(ROWS), "test.jsonl": as_lines(ROWS[1:])}
    hub.publish("acme/talk", files, kind="datasets")

    got = host.run("acme/talk", split="test")

    assert [row for _, row in got["rows"]] == ROWS[1:]
    assert hub.downloads("test.jsonl")
    assert not hub.downloads("train.jsonl")


def test_two_parts_of_one_data_set_are_kept_apart(hub: HubServer, host: Downloader) -> None:
    files = {"train.jsonl": as_lines(ROWS), "test.jsonl": as_lines(ROWS[1:])}
    hub.publish("acme/talk", files, kind="datasets")

    train = host.run("acme/talk", split="train")
    test = host.run("acme/talk", split="test")

    assert (len(train["rows"]), len(test["rows"])) == (2, 1)


def test_valid_is_what_the_library_calls_validation(hub: HubServer, host: Downloader) -> None:
    files = {"train.jsonl": as_lines(ROWS), "valid.jsonl": as_lines(ROWS[1:])}
    hub.publish("acme/talk", files, kind="datasets")

    got = host.run("acme/talk", split="valid")

    assert [row for _, row in got["rows"]] == ROWS[1:]


def test_an_unknown_part_is_refused_with_those_that_exist(hub: HubServer, host: Downloader) -> None:
    files = {"train.jsonl": as_lines(ROWS), "test.jsonl": as_lines(ROWS)}
    hub.publish("acme/talk", files, kind="datasets")

    told = host.run("acme/talk", split="dev")

    assert told["cause"] == "DATASET_INVALID"
    assert "no part 'dev'; it has: train, test" in told["message"]
    assert not hub.downloads(".jsonl")


CONFIGURED = b"""---
configs:
- config_name: short
  data_files:
  - split: train
    path: short/*.jsonl
- config_name: long
  data_files:
  - split: train
    path: long/*.jsonl
---
"""


def test_a_configuration_is_named_before_the_part(
    hub: HubServer, host: Downloader, tmp_path: Path
) -> None:
    files = {
        "README.md": CONFIGURED,
        "short/a.jsonl": as_lines(ROWS[:1]),
        "long/a.jsonl": as_lines(ROWS),
    }
    hub.publish("acme/talk", files, kind="datasets")

    long = host.run("acme/talk", split="long/train")
    unnamed = Downloader(tmp_path / "other", hub.url).run("acme/talk", split="train")

    assert len(long["rows"]) == 2
    assert not hub.downloads("short/a.jsonl")
    assert unnamed["cause"] == "DATASET_INVALID"
    assert "short" in unnamed["message"]
    assert "long" in unnamed["message"]


def test_each_attempt_reads_the_same_commit_although_the_branch_moved(
    hub: HubServer, host: Downloader
) -> None:
    commit = hub.publish("acme/talk", {"train.jsonl": as_lines(ROWS)}, kind="datasets")
    first = host.run("acme/talk", split="train")
    hub.publish("acme/talk", {"train.jsonl": as_lines(ROWS[1:])}, kind="datasets")

    second = host.run("acme/talk", split="train")

    assert second["rows"] == first["rows"]
    assert json.loads(host.pins.read_text()) == {"datasets/acme/talk": commit}
    assert len(hub.downloads("train.jsonl")) == 1, "what is there does not come again"


def test_the_feed_tells_of_the_download(hub: HubServer, host: Downloader) -> None:
    written = as_lines(ROWS)
    commit = hub.publish("acme/talk", {"train.jsonl": written}, kind="datasets")

    host.run("acme/talk", split="train")

    types = [event["type"] for event in host.events()]
    assert types == ["HUB_PINNED", "DATA_DOWNLOADING", "DOWNLOAD_PROGRESS"]
    last = host.events()[-1]["details"]
    assert (last["name"], last["revision"]) == ("datasets/acme/talk", commit)
    assert last["bytes_done"] == last["bytes_total"] == str(len(written))


def pointing_to(place: str) -> dict[str, bytes]:
    config = f"configs:\n- config_name: a\n  data_files: {place}\n"
    return {"README.md": f"---\n{config}---\n".encode(), "train.jsonl": as_lines(ROWS)}


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/secret.jsonl", "/etc/secret.jsonl"])
def test_a_data_set_that_points_elsewhere_is_refused(
    hub: HubServer, host: Downloader, place: str
) -> None:
    hub.publish("acme/talk", pointing_to(place), kind="datasets")

    told = host.run("acme/talk", split="train")

    assert told["cause"] == "DATASET_INVALID"
    assert f"outside its repository: {place}" in told["message"]
    assert not hub.downloads(".jsonl")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train.jsonl": b'{"messages": [\n'}, ["acme/talk", "Expected object"]),
        ({"README.md": b"# nothing here"}, ["acme/talk"]),
        ({"talk.py": b"import os", "train.zip": b"PK"}, ["acme/talk"]),
    ],
    ids=["malformed", "without data", "a script"],
)
def test_what_is_no_rows_is_a_fault_of_the_data_set(
    hub: HubServer, host: Downloader, files: Mapping[str, bytes], words: list[str]
) -> None:
    hub.publish("acme/talk", files, kind="datasets")

    told = host.run("acme/talk", split="train")

    assert told["cause"] == "DATASET_INVALID"
    for word in words:
        assert word in told["message"]


def test_an_unknown_data_set_is_named(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/talk", {"config.json": b"{}"})  # a model has that name

    told = host.run("acme/talk", split="train")

    assert told["cause"] == "DATASET_INVALID"
    assert "data set acme/talk is not on the hub" in told["message"]


def test_a_gated_data_set_says_what_to_do(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/talk", {"train.jsonl": as_lines(ROWS)}, kind="datasets")
    hub.repository("acme/talk", "datasets").token = "another"
    host.environment["HF_TOKEN"] = TOKEN

    told = host.run("acme/talk", split="train")

    assert told["cause"] == "DATASET_INVALID"
    assert "HF_TOKEN" in told["hint"]
    assert TOKEN not in json.dumps(told)


@pytest.mark.parametrize("missing", ["train.parquet", "README.md"])
def test_a_hub_that_stays_away_is_a_fault_of_the_network(
    hub: HubServer, host: Downloader, missing: str
) -> None:
    files = {"README.md": b"# talk", "train.parquet": as_parquet(ROWS)}
    hub.publish("acme/talk", files, kind="datasets")
    hub.fail(missing, 503)

    told = host.run("acme/talk", split="train")

    assert told["cause"] == "NETWORK"
    assert "503" in told["message"]


def as_featured_parquet(rows: list[dict[str, Any]], features: Mapping[str, Any]) -> bytes:
    """With what the library notes of its own types."""
    table = pa.Table.from_pylist(rows)
    noted = {"huggingface": json.dumps({"info": {"features": features}})}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(noted), sink)
    return sink.getvalue()


TEXT = {"dtype": "string", "_type": "Value"}


def test_no_picture_or_sound_is_decoded_while_rows_are_read(
    hub: HubServer, host: Downloader, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "vector.eps"
    elsewhere.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    pointer = {"bytes": None, "path": str(elsewhere)}
    message = {"role": "assistant", "content": "ok", "seen": pointer}
    row = {"messages": [message], "images": [pointer], "voice": pointer}
    features = {
        "messages": {
            "feature": {"role": TEXT, "content": TEXT, "seen": {"_type": "Image"}},
            "_type": "List",
        },
        "images": {"feature": {"_type": "Image"}, "_type": "List"},
        "voice": {"_type": "Audio"},
    }
    hub.publish("acme/seen", {"a.parquet": as_featured_parquet([row], features)}, kind="datasets")

    got = host.run("acme/seen", split="train")

    path_alone = {"path": str(elsewhere)}
    expected = {"messages": [{**message, "seen": path_alone}], "images": [path_alone]}
    assert [value for _, value in got["rows"]] == [expected]


def test_values_of_several_types_come_as_they_were_written(
    hub: HubServer, host: Downloader
) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "ok"}]},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    ]
    hub.publish("acme/mixed", {"train.jsonl": as_lines(rows)}, kind="datasets")

    got = host.run("acme/mixed", split="train")

    assert [value for _, value in got["rows"]] == rows


def test_columns_of_no_known_format_are_named(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/odd", {"train.csv": b"title,body\na,b\n"}, kind="datasets")

    told = host.run("acme/odd", split="train")

    assert told["cause"] == "DATASET_INVALID"
    assert "found the columns title, body" in told["message"]


def test_columns_have_the_names_that_the_job_gives(hub: HubServer, host: Downloader) -> None:
    hub.publish("acme/odd", {"train.csv": b"id,title,body\n1,a,b\n"}, kind="datasets")

    named = host.run("acme/odd", split="train", columns={"instruction": "title", "output": "body"})
    wrong = host.run("acme/odd", split="train", columns={"instruction": "head", "output": "body"})

    assert named["rows"] == [[1, {"title": "a", "body": "b"}]]
    assert named["unread"] == ["id"]
    assert wrong["cause"] == "DATASET_INVALID"
    assert 'has no column "head", named in columns; it has: id, title, body' in wrong["message"]


def test_a_text_file_has_a_row_for_each_line_that_is_not_empty(
    hub: HubServer, host: Downloader
) -> None:
    hub.publish("acme/wiki", {"train.txt": b"one\n\n \ntwo\n"}, kind="datasets")

    got = host.run("acme/wiki", split="train")

    assert got["rows"] == [[1, {"text": "one"}], [4, {"text": "two"}]]


@pytest.mark.timeout(60)
def test_a_card_that_stands_for_gigabytes_is_refused(hub: HubServer, host: Downloader) -> None:
    tenfold = [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)
    ]
    card = "\n".join(["---", "a0: &a0 [x, x]", *tenfold, "configs: [*a8]", "---", ""])
    files = {"README.md": card.encode(), "train.jsonl": as_lines(ROWS)}
    hub.publish("acme/bomb", files, kind="datasets")

    told = host.run("acme/bomb", split="train")

    assert told["cause"] == "DATASET_INVALID"
    assert "README.md of data set acme/bomb stands for more than" in told["message"]
