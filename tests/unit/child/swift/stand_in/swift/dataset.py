"""Data sets by name, loaded as ms-swift does: with trust in whatever code they bring."""

from __future__ import annotations

from typing import Any

import modelscope  # type: ignore[import-not-found]


def load_dataset(names: list[str], **_: Any) -> tuple[Any, None]:
    """The rows of the one named, and no validation split."""
    (name,) = names
    return modelscope.MsDataset.load(name, trust_remote_code=True), None
