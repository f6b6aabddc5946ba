"""Receipts of data in words. Pure.

One row of FIELDS for each thing that a receipt says: a new field of
DataPrepared is one more row, and `jobs get` shows it. A test holds the two
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tunewright.cli import words
from tunewright.cli.data_words import printable
from tunewright.v1 import feed_pb2

Data = feed_pb2.DataPrepared
_KEYS_SHOWN_MAX = 8


def receipt_title(data: Data) -> str:
    """ "receipt of train data  /data/rows.jsonl"."""
    return f"receipt of {data.part} data  {printable(data.source)}"


def receipt_fields(data: Data) -> Iterator[tuple[str, str]]:
    """Everything that the receipt says, as name and value; "" where there is nothing to say."""
    for name, value in FIELDS:
        yield name, value(data)


def _rows(data: Data) -> str:
    return f"{words.count(data.rows_kept)} of {words.count(data.rows_read)} kept"


def _truncated(data: Data) -> str:
    return f"{words.count(data.rows_truncated)} cut to max_length" if data.rows_truncated else ""


def _dropped(data: Data) -> str:
    return ", ".join(_one_reason(dropped) for dropped in data.dropped)


def _one_reason(dropped: feed_pb2.DroppedRows) -> str:
    said = f"{words.count(dropped.count)} {printable(dropped.reason.replace('_', ' '))}"
    return f"{said} (first: {printable(dropped.places[0])})" if dropped.places else said


def _tokens(data: Data) -> str:
    said = words.count(data.tokens)
    if not data.tokens:
        return said
    share = 100 * data.supervised_tokens / data.tokens
    return f"{said}, {words.count(data.supervised_tokens)} with loss ({share:.0f} %)"


def _columns(data: Data) -> str:
    """ "instruction = question, output = answer"."""
    return ", ".join(f"{name} = {printable(own)}" for name, own in sorted(data.columns.items()))


def _not_used(data: Data) -> str:
    """The most frequent keys that no part of the training reads, and how many rows have them."""
    shown = data.ignored_keys[:_KEYS_SHOWN_MAX]
    parts = [f"{printable(one.key)} ({words.count(one.rows)} rows)" for one in shown]
    left = len(data.ignored_keys) - len(shown)
    if left:
        parts.append(f"{left} more keys")
    if data.ignored_keys_omitted_rows:
        parts.append(f"other keys ({words.count(data.ignored_keys_omitted_rows)} rows)")
    return ", ".join(parts)


def _turns(data: Data) -> str:
    """What is special about the assistant's turns, in numbers of turns."""
    counts = {
        "without loss": data.turns_not_learnt,
        "without loss because the template drops their thought": data.thoughts_dropped,
        "with a thought": data.thoughts,
        "empty and learned": data.empty_answers,
    }
    return ", ".join(f"{words.count(many)} {what}" for what, many in counts.items() if many)


FIELDS: tuple[tuple[str, Callable[[Data], str]], ...] = (
    ("part of the file", lambda data: printable(data.split)),
    ("columns", _columns),
    ("rows", _rows),
    ("truncated", _truncated),
    ("dropped", _dropped),
    ("keys not used", _not_used),
    ("assistant turns", _turns),
    ("tokens", _tokens),
)
