"""A template that makes a token of each word."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any


class Template:
    """Words are tokens, and those of the assistant are learnt."""

    # As Qwen-VL's: in training it uses the model, which is set before.
    use_model = True
    model: Any = None

    def __init__(self, max_length: int, truncation_strategy: str, is_multimodal: bool) -> None:
        self.model_meta = SimpleNamespace(is_multimodal=is_multimodal)
        self.max_length: int | None = max_length
        self.truncation_strategy = truncation_strategy

    def set_mode(self, mode: str) -> None:
        """Nothing to set."""

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """The tokens of a row; "UNTAKEABLE" is a text that it does not take, for
        "LIBRARY" it lacks one, at "MEMORY" the system kills who reads it, and for "MODEL" it asks
        the model."""
        labels = []
        for message in row["messages"]:
            if "UNTAKEABLE" in message["content"]:
                raise ValueError("this template takes no such text")
            if "MEMORY" in message["content"]:
                os.kill(os.getpid(), signal.SIGKILL)
            if "LIBRARY" in message["content"]:
                raise ImportError("No module named 'torchvision'")
            if "MODEL" in message["content"]:
                self.model.transform(message["content"])
            learnt = message["role"] == "assistant"
            labels += [1 if learnt else -100] * len(message["content"].split())
        labels = [-100, *labels]
        if self.max_length is not None:
            labels = labels[: self.max_length]
        return {"input_ids": [1] * len(labels), "labels": labels, "loss_scale": None}
