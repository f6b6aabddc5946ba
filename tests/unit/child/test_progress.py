"""How the preparation of data reports how far it is."""

from typing import Any

from trainer_svc.child.progress import EVERY_SECONDS, DataProgress
from trainer_svc.child.receipts import Tally


class Reports:
    """Reports under a clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.progress = DataProgress(self._event, lambda: self.now)

    def _event(self, kind: str, message: str, **details: Any) -> None:
        self.events.append((kind, message, details))


def test_work_of_a_few_seconds_reports_nothing() -> None:
    reports = Reports()
    tally = Tally("train", "a.jsonl", "/data/a.jsonl", 64, rows_read=9)

    rows = list(reports.progress.reading(iter("abc"), tally))
    reports.now = EVERY_SECONDS - 0.1
    reports.progress.encoded(tally, 3, 9)

    assert rows == ["a", "b", "c"]
    assert reports.events == []


def test_long_work_reports_how_far_it_is_now_and_then() -> None:
    reports = Reports()
    tally = Tally("train", "a.jsonl", "/data/a.jsonl", 64)
    for _ in reports.progress.reading(iter(range(2_000)), tally):
        tally.rows_read += 1
        reports.now += EVERY_SECONDS / 512

    reports.now += EVERY_SECONDS
    reports.progress.encoded(tally, 500, 2_000)
    reports.progress.encoded(tally, 600, 2_000)

    texts = [message for _, message, _ in reports.events]
    assert texts[0].startswith("read 512 rows of a.jsonl")
    assert texts[-1] == "encoded 500 of 2,000 rows of a.jsonl"
    assert len(texts) == 4
    assert reports.events[-1][2] == {
        "part": "train",
        "source": "a.jsonl",
        "stage": "encoding",
        "rows_done": 500,
        "rows_total": 2_000,
    }
