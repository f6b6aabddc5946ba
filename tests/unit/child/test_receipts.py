"""What is counted of rows left out, and how many may be."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.inspection import RUN
from trainer_svc.child.receipts import PLACES_MAX, TOO_LONG, Tally, settle
from trainer_svc.child.spool import Spool


def tally_of(read: int, **dropped: int) -> Tally:
    tally = Tally("train", "data.jsonl#9", "/data/data.jsonl", max_length=64, rows_read=read)
    for reason, count in dropped.items():
        for number in range(count):
            tally.drop(reason, f"/data/data.jsonl:{number + 1}")
    return tally


def test_reasons_are_told_by_falling_count_with_the_first_places() -> None:
    receipt = tally_of(100, empty=2, malformed=7).receipt()

    assert (receipt.rows_read, receipt.rows_kept) == (100, 91)
    assert [(entry.reason, entry.count) for entry in receipt.dropped] == [
        ("malformed", 7),
        ("empty", 2),
    ]
    assert list(receipt.dropped[0].places) == [
        f"/data/data.jsonl:{number}" for number in range(1, PLACES_MAX + 1)
    ]


def test_too_great_a_share_fails_and_names_counts_and_places() -> None:
    tally = tally_of(20, malformed=4, empty=1)

    with pytest.raises(RunFailed) as caught:
        tally.require_fraction(0.1)

    assert caught.value.cause is Cause.DATASET_INVALID
    assert str(caught.value) == (
        "5 of 20 rows of /data/data.jsonl (25.00%) are left out, more than"
        " max_dropped_fraction = 0.1 allows: malformed: 4 (/data/data.jsonl:1,"
        " /data/data.jsonl:2, /data/data.jsonl:3, ...), empty: 1 (/data/data.jsonl:1)"
    )
    assert "max_dropped_fraction" in caught.value.hint


@given(percent=st.integers(0, 100), hundreds=st.integers(1, 30))
def test_a_share_just_at_the_limit_passes_and_one_row_more_does_not(
    percent: int, hundreds: int
) -> None:
    limit = float(f"{percent / 100:.2f}")
    at_limit = tally_of(hundreds * 100, empty=hundreds * percent)

    at_limit.require_fraction(limit)

    if percent < 100:
        at_limit.drop("empty", "x")
        with pytest.raises(RunFailed):
            at_limit.require_fraction(limit)


@pytest.mark.parametrize(
    ("tally", "message"),
    [
        (tally_of(0), "has no rows"),
        (tally_of(3, too_long=3), "every row of /data/data.jsonl is too long: .* max_length = 64"),
        (
            tally_of(3, too_long=1, empty=2),
            r"no row of .* of 3 rows were left out empty: 2 \(/data/data.jsonl:1, .*too_long: 1",
        ),
    ],
)
def test_nothing_left_is_refused_with_the_reason(tally: Tally, message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        tally.require_rows()


def test_receipts_are_told_before_the_run_fails_over_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    sound, spoilt = tally_of(10), tally_of(10)
    spoilt.drop(TOO_LONG, "/data/data.jsonl:3")
    spoilt.drop(TOO_LONG, "/data/data.jsonl:4")

    with pytest.raises(RunFailed, match=r"2 of 10 rows"):
        settle([sound, spoilt], spool, 0.1, RUN)
    receipts = settle([sound, spoilt], spool, 0.2, RUN)

    spool.close()
    lines = (tmp_path / "spool.jsonl").read_text().splitlines()
    told = [json.loads(line)["data_prepared"] for line in lines]
    assert [entry["rows_kept"] for entry in told] == ["10", "8", "10", "8"]
    assert [receipt.rows_kept for receipt in receipts] == [10, 8]
