"""Whether rows fit the positions that a model knows.

Owns the difference between learned positions, of which there is a table (beyond
it a GPU faults), and rotary ones, which are only untrained beyond what the model
saw. Refuses the first before any data is read (RunFailed, CONFIG_INVALID), and
warns of the second.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunewright.v1.feed_pb2 import SEVERITY_WARNING
from tunewright.v1.spec_pb2 import Hyperparameters

from trainer_svc.child.failure import Cause, RunFailed
from trainer_svc.child.spool import Spool

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped]  # no stubs
    from transformers import PreTrainedModel

TABLE_NAMES = frozenset(
    {"wpe", "embed_positions", "position_embedding", "position_embeddings", "pos_embedding"}
)


def require_positions(
    model: "PreTrainedModel", wanted: Hyperparameters, untouched: Sequence[str] = ()
) -> None:
    """Raises RunFailed if max_length is beyond a table of learned positions. The modules
    `untouched`, a vision tower, have tables of their own."""
    from torch import nn

    for path, module in model.named_modules():
        if any(path == part or path.startswith(f"{part}.") for part in untouched):
            continue
        if not isinstance(module, nn.Embedding) or path.rsplit(".", 1)[-1] not in TABLE_NAMES:
            continue
        positions = module.num_embeddings - int(getattr(module, "offset", 0))
        if wanted.max_length > positions:
            raise RunFailed(
                Cause.CONFIG_INVALID,
                f"max_length is {wanted.max_length}, and the model has {positions} learned"
                f" positions ({path})",
                f"Set max_length to {positions} or less.",
            )


def warn_beyond_positions(
    config: Any, wanted: Hyperparameters, rows: "Dataset", spool: Spool
) -> None:
    """An event if rows are longer than the positions that the model was trained on."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(positions, int) or wanted.max_length <= positions:
        return
    longer, longest = _longer(rows, positions)
    if longer:
        spool.event(
            "BEYOND_POSITIONS",
            f"{longer:,} of {len(rows):,} rows are longer than the {positions:,} positions that"
            f" the model was trained on; the longest has {longest:,} tokens. Set max_length to"
            f" {positions} to cut them.",
            SEVERITY_WARNING,
            rows=longer,
            tokens_max=longest,
            positions=positions,
        )


def _longer(rows: "Dataset", positions: int) -> tuple[int, int]:
    """How many rows have more tokens than `positions`, and the most that one has."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]  # no stubs

    if "input_ids" not in rows.column_names:
        return 0, 0
    lengths = pc.list_value_length(rows.data.column("input_ids"))
    longer = pc.sum(pc.greater(lengths, positions)).as_py() or 0
    return int(longer), int(pc.max(lengths).as_py() or 0)
