"""Where an attempt begins: at the beginning, or at a checkpoint.

Owns what is told about it. Checkpoints that do not hold their hashes are told
and not used; a run that starts over first removes them all.
"""

from tunewright.v1.feed_pb2 import SEVERITY_WARNING

from trainer_svc.child.checkpoints import Checkpoint, CheckpointStore
from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.spool import Spool


def find_start(store: CheckpointStore, resume: bool, spool: Spool) -> Checkpoint | None:
    """The checkpoint to go on from; None to begin at the beginning. Opens the store."""
    store.open()
    if not resume:
        discarded = store.discard()
        if discarded:
            text = f"starting over; removed the checkpoints at steps {discarded}"
            spool.event("CHECKPOINTS_DISCARDED", text, SEVERITY_WARNING)
        return None
    start, broken = store.resume_point()
    for entry in broken:
        text = f"checkpoint {entry.step} is not used: {entry.why}"
        spool.event("CHECKPOINT_INVALID", text, SEVERITY_WARNING, step=entry.step)
    if start is None:
        text = "there is no checkpoint to resume from: starting over"
        spool.event("STARTING_OVER", text, SEVERITY_WARNING)
        return None
    spool.event("RESUMED", f"resuming from step {start.step}", step=start.step, path=start.folder)
    return start


def require_within(start: Checkpoint | None, total_steps: int) -> None:
    """Raises RunFailed for a checkpoint beyond the last step."""
    if start is None or start.step <= total_steps:
        return
    raise RunFailed(
        Cause.NOTHING_TO_TRAIN,
        f"the checkpoint is at step {start.step}, but the data set now makes {total_steps} steps",
        "The data set has changed since the job began; hand in a new job for it.",
    )
