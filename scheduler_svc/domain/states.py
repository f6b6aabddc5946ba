"""The life cycle of a job: its states and the moves between them.

Owns which moves exist; anything that is not in MOVES is refused with
ForbiddenMove. Pure: no clock, no database, no RPC. Drawn in docs/job-states.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class JobState(StrEnum):
    """Where a job stands. Values are the names of the proto enum."""

    HELD = "JOB_STATE_HELD"
    """Made with hold. A person moves it on. Nothing runs: a crash changes nothing."""

    QUEUED = "JOB_STATE_QUEUED"
    """Waits for a trainer. Dispatch moves it on. Nothing runs: a crash changes nothing."""

    STARTING = "JOB_STATE_STARTING"
    """Assigned; no child is known to run. The trainer's report moves it on. A scheduler
    crash loses nothing: the next heartbeat's answer delivers the assignment again. A
    restarted trainer that never heard of it gets it again; a lost host moves it to RECOVERING."""

    RUNNING = "JOB_STATE_RUNNING"
    """Its child runs. The trainer's reports move it on. A crash of scheduler, monitor or
    trainer service leaves it running; the end of its child or of its host leads to
    RECOVERING or FAILED."""

    PUBLISHING = "JOB_STATE_PUBLISHING"
    """Holds the one grant to publish. Only its own trainer (or an administrator who gives
    the host up) moves it on. A lost host is waited for: the result may stand already."""

    PAUSING = "JOB_STATE_PAUSING"
    """Asked to pause; its processes still exist. The trainer's report moves it on. Any
    crash ends in PAUSED at the last valid checkpoint; on a lost host, so does the window."""

    PAUSED = "JOB_STATE_PAUSED"
    """Stopped, holds no slot. A person moves it on. Nothing runs: a crash changes nothing."""

    CANCELLING = "JOB_STATE_CANCELLING"
    """Asked to cancel; its processes still exist. The trainer's report moves it on. Any
    crash ends in CANCELLED; on a lost host, so does the window."""

    RECOVERING = "JOB_STATE_RECOVERING"
    """Waits out the back-off after a failed or lost attempt. The recovery pass moves it on.
    A crash changes nothing: the time to go on is in the record."""

    SUCCEEDED = "JOB_STATE_SUCCEEDED"
    """Final. Its result is published."""

    FAILED = "JOB_STATE_FAILED"
    """Final. Its failure says why."""

    CANCELLED = "JOB_STATE_CANCELLED"
    """Final. It leaves no result."""


_S = JobState

MOVES: Mapping[JobState, frozenset[JobState]] = MappingProxyType(
    {
        _S.HELD: frozenset({_S.QUEUED, _S.CANCELLED}),
        _S.QUEUED: frozenset({_S.STARTING, _S.PAUSED, _S.CANCELLED}),
        _S.STARTING: frozenset(
            {_S.RUNNING, _S.PAUSING, _S.CANCELLING, _S.RECOVERING, _S.FAILED},
        ),
        _S.RUNNING: frozenset(
            {_S.PUBLISHING, _S.PAUSING, _S.CANCELLING, _S.RECOVERING, _S.FAILED},
        ),
        # Neither cancel nor a lost host takes the grant back.
        _S.PUBLISHING: frozenset({_S.SUCCEEDED, _S.FAILED}),
        # Training that ends before the pause reaches it publishes; cancel wins over pause.
        _S.PAUSING: frozenset({_S.PAUSED, _S.PUBLISHING, _S.CANCELLING, _S.FAILED}),
        _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
        _S.CANCELLING: frozenset({_S.CANCELLED}),
        _S.RECOVERING: frozenset({_S.QUEUED, _S.PAUSED, _S.CANCELLED}),
        _S.SUCCEEDED: frozenset(),  # final
        _S.FAILED: frozenset(),  # final
        _S.CANCELLED: frozenset(),  # final
    }
)

TERMINAL = frozenset(state for state, targets in MOVES.items() if not targets)
"""Nothing moves a job out of these."""

WITH_ATTEMPT = frozenset({_S.STARTING, _S.RUNNING, _S.PUBLISHING, _S.PAUSING, _S.CANCELLING})
"""The job's latest attempt is on a trainer."""

WAITING = frozenset({_S.HELD, _S.QUEUED, _S.RECOVERING, _S.PAUSED})
"""The job needs no trainer now, and will need one later."""


def may_move(source: JobState, target: JobState) -> bool:
    """Whether the table has this move."""
    return target in MOVES[source]
