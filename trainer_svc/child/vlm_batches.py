"""From rows about pictures to batches.

Owns the opening of pictures in training: only those of the batch that is made
are in memory. Refuses a picture that cannot be read any more, or is another one
than when the data was prepared (PictureLost).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer_svc.child.inspection import IGNORED
from trainer_svc.child.vlm_masks import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import ProcessorMixin


class PictureLost(Exception):
    """A picture is not what it was. One argument only: it may come from another process."""


class PictureBatches:
    """Collates prepared rows with one processor. Can be sent to other processes."""

    def __init__(self, processor: "ProcessorMixin") -> None:
        self._processor: Any = processor

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What the model takes, and `labels`. Raises PictureLost."""
        import torch

        pictures = [[_open(path) for path in row["pictures"]] for row in rows]
        batch: dict[str, Any] = dict(
            self._processor(
                text=[row["text"] for row in rows],
                images=pictures if any(pictures) else None,
                padding=True,
                padding_side="right",
                add_special_tokens=False,  # the template has written them
                return_tensors="pt",
            )
        )
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for at, row in enumerate(rows):
            length = len(row["labels"])
            if int(batch["attention_mask"][at].sum()) != length:
                raise PictureLost(f"a picture has changed: {', '.join(row['pictures'])}")
            labels[at, :length] = torch.tensor(row["labels"])
        batch["labels"] = labels
        return batch


def _open(path: str) -> "Image":
    try:
        return open_picture(Path(path))
    except (OSError, ValueError) as error:
        raise PictureLost(f"{path} cannot be read any more: {error}") from None
