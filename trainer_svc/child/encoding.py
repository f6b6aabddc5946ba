"""Encodes checked rows, in several processes where there are many of them.

Owns these processes: they are forked, so that nothing is pickled but rows, and
they end with the work, however it ends. A stop request (StopNow) gets through at
once. Owns also what may become of a row in encoding, and how that is tallied.
Refuses broken rows of a strict job (RunFailed, DATASET_INVALID) and ends the run
when the system kills one of the processes (RunFailed, HOST_OUT_OF_MEMORY).
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]  # no stubs
import pyarrow.compute as pc  # type: ignore[import-untyped]  # no stubs

from trainer_svc.child.arrow_rows import ArrowWriter, read_batches
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.inspection import IGNORED, KeptRow
from trainer_svc.child.progress import SILENT, DataProgress
from trainer_svc.child.raw_row import data_failure
from trainer_svc.child.receipts import MALFORMED, NO_SUPERVISED_TOKENS, TOO_LONG, Tally
from trainer_svc.child.source_rows import Rules
from trainer_svc.child.turns.refusals import (
    NoSystemRole,
    RowRefused,
    ThoughtLost,
    TurnsNotFound,
)

PROCESSES_MAX = 8
# Batches that are with the processes at a time, for each of them: one at work, one waiting.
BATCHES_AHEAD = 2


class Fate(IntEnum):
    """What became of a row in encoding."""

    KEPT = 0
    TRUNCATED = 1
    TOO_LONG = 2
    NO_SUPERVISED_TOKENS = 3
    BROKEN = 4
    NO_SYSTEM_ROLE = 5
    THOUGHT_LOST = 6
    TURNS_NOT_FOUND = 7


REFUSALS: Mapping[type[RowRefused], Fate] = {
    NoSystemRole: Fate.NO_SYSTEM_ROLE,
    ThoughtLost: Fate.THOUGHT_LOST,
    TurnsNotFound: Fate.TURNS_NOT_FOUND,
}
REASONS: Mapping[int, str] = {
    Fate.TOO_LONG: TOO_LONG,
    Fate.NO_SUPERVISED_TOKENS: NO_SUPERVISED_TOKENS,
    Fate.BROKEN: MALFORMED,
    **{fate: refusal.reason for refusal, fate in REFUSALS.items()},
}
HINTS: Mapping[int, str] = {
    Fate.BROKEN: RowRefused.hint,
    **{fate: refusal.hint for refusal, fate in REFUSALS.items()},
}
"""What fails a strict job, and what to do about it."""
OUTCOME = (
    ("place", pa.string()),
    ("fate", pa.int8()),
    ("why", pa.string()),
    ("tokens", pa.int32()),
    ("supervised_tokens", pa.int32()),
    ("length", pa.int32()),
    ("thoughts_dropped", pa.int32()),
)
"""The columns that every encoded row has; the sizes are those of rows that are kept, the length
is in tokens, before a row is cut."""


@dataclass(frozen=True)
class Encoding:
    """How rows of one kind are encoded. `encode` makes the columns of `schema`, "place" apart,
    of one checked row; `schema` includes OUTCOME, and input_ids and labels."""

    encode: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    schema: pa.Schema
    batch_rows: int
    parallel_rows: int
    """Below this many rows, starting processes costs more than it saves."""

    def encoded(self, path: Path, rows: int) -> Generator[pa.RecordBatch, None, None]:
        """The encoded rows of a file of checked ones, in order; closing it ends the processes.
        Raises RunFailed."""
        tasks = _slices(path, self.batch_rows)
        processes = min(PROCESSES_MAX, len(os.sched_getaffinity(0)))
        if rows < self.parallel_rows or processes == 1:
            yield from map(self.encode_batch, tasks)
            return
        yield from _in_processes(self, tasks, processes)

    def encode_batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """One batch, in this process."""
        rows = [{"place": row["place"], **self.encode(row)} for row in batch.to_pylist()]
        return pa.RecordBatch.from_pylist(rows, schema=self.schema)


def _slices(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(path):
        for begin in range(0, batch.num_rows, rows):
            yield batch.slice(begin, rows)


_shared: Encoding | None = None


def _in_processes(
    encoding: Encoding, tasks: Iterator[pa.RecordBatch], processes: int
) -> Iterator[pa.RecordBatch]:
    global _shared
    _shared = encoding  # the processes are forked at the first task, and have it then
    waiting: deque[Future[bytes]] = deque()
    with _processes(processes) as pool:
        try:
            for task in tasks:
                waiting.append(
                    pool.submit(_encode_sent, task.schema, task.serialize().to_pybytes())
                )
                if len(waiting) >= processes * BATCHES_AHEAD:
                    yield _received(waiting.popleft(), encoding.schema)
            while waiting:
                yield _received(waiting.popleft(), encoding.schema)
        except BrokenProcessPool as error:
            raise RunFailed(
                Cause.HOST_OUT_OF_MEMORY,
                "a process that encoded rows was killed, most likely for the memory it took",
                "Use a host with more memory, or shorten the longest rows of the data set.",
            ) from error


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are gone when the block ends, whatever ends it."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("fork"))
    try:
        yield pool
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        pool.shutdown(cancel_futures=True)


def _encode_sent(schema: pa.Schema, task: bytes) -> bytes:
    if _shared is None:
        raise AssertionError("there is nothing to encode with")
    batch = pa.ipc.read_record_batch(pa.py_buffer(task), schema)
    encoded: bytes = _shared.encode_batch(batch).serialize().to_pybytes()
    return encoded


def _received(sent: "Future[bytes]", schema: pa.Schema) -> pa.RecordBatch:
    return pa.ipc.read_record_batch(pa.py_buffer(sent.result()), schema)


def outcome(
    labels: Sequence[int], max_length: int, cuts: bool, thoughts_dropped: int = 0
) -> tuple[Fate, dict[str, Any]]:
    """What becomes of a row with these labels, and its columns of OUTCOME but the place. A row
    longer than `max_length` is cut at its end, if `cuts`; it is too long if that leaves nothing
    to learn."""
    # The first token is predicted from nothing, so a label there counts for nothing.
    fate = Fate.KEPT
    if not _learns(labels):
        fate = Fate.NO_SUPERVISED_TOKENS
    elif len(labels) > max_length:
        fate = Fate.TRUNCATED if cuts and _learns(labels[:max_length]) else Fate.TOO_LONG
    left = labels[:max_length] if fate is Fate.TRUNCATED else labels
    supervised = sum(label != IGNORED for label in left)
    sizes = {"tokens": len(left), "supervised_tokens": supervised, "length": len(labels)}
    return fate, {"fate": fate, "why": "", **sizes, "thoughts_dropped": thoughts_dropped}


def _learns(labels: Sequence[int]) -> bool:
    return any(label != IGNORED for label in labels[1:])


def broken(why: str, fate: Fate = Fate.BROKEN) -> dict[str, Any]:
    """The columns of OUTCOME but the place of a row that cannot be encoded."""
    sizes = {"tokens": 0, "supervised_tokens": 0, "length": 0, "thoughts_dropped": 0}
    return {"fate": fate, "why": why, **sizes}


def refused(error: Exception) -> dict[str, Any]:
    """The same of a row that the chat template, or what finds the turns in it, refuses."""
    found = (fate for refusal, fate in REFUSALS.items() if isinstance(error, refusal))
    fate = next(found, Fate.BROKEN)
    # A refusal of ours says itself what the template does not take.
    ours = fate is not Fate.BROKEN
    why = str(error) if ours else f"the chat template does not take this dialogue: {error}"
    return broken(why, fate)


def sieve(
    batches: Generator[pa.RecordBatch, None, None],
    tally: Tally,
    rules: Rules,
    kept: ArrowWriter,
    progress: DataProgress = SILENT,
) -> None:
    """Writes the rows that are kept and tallies all of them. Raises RunFailed."""
    done, total = 0, tally.rows_kept
    with closing(batches):
        for batch in batches:
            outcomes = batch.select([name for name, _ in OUTCOME])
            for at, row in enumerate(outcomes.to_pylist()):
                _tally(row, batch, at, tally, rules)
            wanted = pc.less_equal(batch.column("fate"), int(Fate.TRUNCATED))
            kept.add_batch(batch.filter(wanted))
            done += batch.num_rows
            progress.encoded(tally, done, total)


def _tally(
    row: Mapping[str, Any], batch: pa.RecordBatch, at: int, tally: Tally, rules: Rules
) -> None:
    """Tallies row number `at` of a batch, whose columns of OUTCOME are `row`."""
    inspection, fate, place = rules.inspection, row["fate"], row["place"]
    if fate in HINTS and rules.strict:
        inspection.refuse_row(data_failure(f"{place}: {row['why']}", HINTS[fate]))
    if fate in REASONS:
        inspection.drop(tally, REASONS[fate], place, row["why"], row["length"])
        return
    tally.thoughts_dropped += row["thoughts_dropped"]
    shown = inspection.shows(tally)
    inspection.keep(
        tally,
        KeptRow(
            place=place,
            tokens=row["tokens"],
            supervised_tokens=row["supervised_tokens"],
            truncated=fate == Fate.TRUNCATED,
            length=row["length"],
            input_ids=batch.column("input_ids")[at].as_py() if shown else (),
            labels=batch.column("labels")[at].as_py() if shown else (),
        ),
    )
