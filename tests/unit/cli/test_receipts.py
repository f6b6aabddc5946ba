"""Receipts of data in words, and which of a job's entries they are."""

from __future__ import annotations

import pytest
from tunewright.cli.receipts import receipt_fields, receipt_title
from tunewright.receipts import newest_receipts
from tunewright.v1 import feed_pb2

FULL = feed_pb2.DataPrepared(
    part="train",
    source="/data/rows.jsonl",
    rows_read=32_000,
    rows_kept=30_000,
    rows_truncated=3,
    dropped=[
        feed_pb2.DroppedRows(reason="no_assistant_turn", count=1999, places=["rows.jsonl:17"]),
        feed_pb2.DroppedRows(reason="malformed", count=1),
    ],
    tokens=1606,
    supervised_tokens=803,
)


def prepared(attempt: int, part: str) -> feed_pb2.Entry:
    return feed_pb2.Entry(attempt=attempt, data_prepared=feed_pb2.DataPrepared(part=part))


def with_field(name: str) -> feed_pb2.DataPrepared:
    """A receipt with tokens and this field."""
    data = feed_pb2.DataPrepared(tokens=1000)
    field = data.DESCRIPTOR.fields_by_name[name]
    if name == "dropped":
        data.dropped.add(reason="x", count=7)
    elif name == "ignored_keys":
        data.ignored_keys.add(key="x", rows=7)
    elif name == "columns":
        data.columns["instruction"] = "question"
    else:
        setattr(data, name, "x" if field.type == field.TYPE_STRING else 7)
    return data


@pytest.mark.parametrize("field", [one.name for one in feed_pb2.DataPrepared.DESCRIPTOR.fields])
def test_every_field_of_a_receipt_is_shown(field: str) -> None:
    plain, changed = feed_pb2.DataPrepared(tokens=1000), with_field(field)

    shown = [receipt_title(changed), *dict(receipt_fields(changed)).values()]

    assert shown != [receipt_title(plain), *dict(receipt_fields(plain)).values()]


def test_many_keys_that_are_not_used_are_cut_with_a_count() -> None:
    keys = [feed_pb2.IgnoredKey(key=f"k{n}", rows=n) for n in range(11, 1, -1)]
    data = feed_pb2.DataPrepared(ignored_keys=keys, ignored_keys_omitted_rows=1)

    said = dict(receipt_fields(data))["keys not used"]

    assert said.startswith("k11 (11 rows), k10 (10 rows), ")
    assert said.endswith(", 2 more keys, other keys (1 rows)")


def test_a_receipt_says_what_became_of_the_rows() -> None:
    assert receipt_title(FULL) == "receipt of train data  /data/rows.jsonl"
    assert {name: value for name, value in receipt_fields(FULL) if value} == {
        "rows": "30,000 of 32,000 kept",
        "truncated": "3 cut to max_length",
        "dropped": "1,999 no assistant turn (first: rows.jsonl:17), 1 malformed",
        "tokens": "1,606, 803 with loss (50 %)",
    }


def test_what_a_terminal_would_act_on_is_spelled_out() -> None:
    dropped = feed_pb2.DroppedRows(reason="x", count=1, places=["a\x1b[2J.jsonl:1"])
    data = feed_pb2.DataPrepared(part="train", source="/d/\x1b]0;x\x07", dropped=[dropped])

    assert "\x1b" not in receipt_title(data) + dict(receipt_fields(data))["dropped"]


def test_a_receipt_of_nothing_has_no_share() -> None:
    fields = dict(receipt_fields(feed_pb2.DataPrepared(part="eval")))

    assert fields["tokens"] == "0"
    assert fields["dropped"] == ""


def test_the_newest_attempt_with_receipts_is_the_one() -> None:
    event = feed_pb2.Entry(attempt=3, event=feed_pb2.Event(type="X"))
    entries = [
        prepared(1, "train"),
        prepared(2, "train"),
        event,
        prepared(1, "late"),
        prepared(2, "eval"),
    ]

    assert [one.part for one in newest_receipts(entries)] == ["train", "eval"]
    assert newest_receipts([event]) == []
