"""What an entry is to the monitor: its kind, whether it ends a job, whether it is only a sample.

Pure. Entries are the contract's own messages; what this version does not know
in one of them is kept and passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from tunewright.v1 import feed_pb2, job_pb2, monitor_service_pb2

Entry = feed_pb2.Entry

# Kinds have the numbers of EntryKind. Gaps and keepalives are of no kind: no filter drops them.
NO_KIND: Final = 0
STATE: Final[int] = monitor_service_pb2.ENTRY_KIND_STATE
METRICS: Final[int] = monitor_service_pb2.ENTRY_KIND_METRICS
LOG: Final[int] = monitor_service_pb2.ENTRY_KIND_LOG
EVENT: Final[int] = monitor_service_pb2.ENTRY_KIND_EVENT
CHECKPOINT: Final[int] = monitor_service_pb2.ENTRY_KIND_CHECKPOINT
SYSTEM: Final[int] = monitor_service_pb2.ENTRY_KIND_SYSTEM

_KINDS: Mapping[str, int] = {
    "state_change": STATE,
    "train_metrics": METRICS,
    "eval_metrics": METRICS,
    "log_line": LOG,
    "event": EVENT,
    "data_prepared": EVENT,
    "checkpoint_saved": CHECKPOINT,
    "system_sample": SYSTEM,
    "gap": NO_KIND,
    "keepalive": NO_KIND,
}

# A newer one replaces an older one: all that a slow subscriber may be spared.
SAMPLES = frozenset({METRICS, SYSTEM})

TERMINAL_STATES = frozenset(
    {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}
)

RETENTION = "RETENTION"
SLOW_SUBSCRIBER = "SLOW_SUBSCRIBER"
SOURCE_LOST = "SOURCE_LOST"
ENTRY_TOO_LARGE = "ENTRY_TOO_LARGE"


def kind_of(entry: Entry) -> int:
    """The entry's kind; a payload that this version does not know is an event."""
    payload = entry.WhichOneof("payload")
    return EVENT if payload is None else _KINDS[payload]


def is_gap(entry: Entry) -> bool:
    """Says that something is missing."""
    return entry.WhichOneof("payload") == "gap"


def is_keepalive(entry: Entry) -> bool:
    """Says only that the stream lives."""
    return entry.WhichOneof("payload") == "keepalive"


def is_terminal(entry: Entry) -> bool:
    """The move of a job to a final state."""
    return (
        entry.WhichOneof("payload") == "state_change" and entry.state_change.to in TERMINAL_STATES
    )


def gap_entry(
    job: str,
    reason: str,
    first_sequence: int = 0,
    last_sequence: int = 0,
    *,
    attempt: int = 0,
    time: Timestamp | None = None,
) -> Entry:
    """A gap: both sequences are inclusive, 0 where the missing entries never had one."""
    gap = feed_pb2.Gap(reason=reason, first_sequence=first_sequence, last_sequence=last_sequence)
    return Entry(job=job, attempt=attempt, time=time, gap=gap)


def keepalive_entry() -> Entry:
    """Nothing happened; the stream lives."""
    return Entry(keepalive=feed_pb2.Keepalive())
