"""The arguments that all commands share."""

from __future__ import annotations

from typing import Any

from swift.template.base import Template  # type: ignore[import-not-found]


class BaseArguments:
    """Those that our script asks for."""

    def __init__(self, options: dict[str, list[str]]) -> None:
        if options.get("model_type") == ["no_such_type"]:
            raise ValueError("model_type: 'no_such_type' not in ['qwen3']")
        self.max_length = int(options["max_length"][0])
        self.dataset_shuffle = True
        self._is_multimodal = options.get("model_type") == ["qwen2_5_vl"]
        self._strategy = options.get("truncation_strategy", ["raise"])[0]

    def get_model_processor(self, load_model: bool) -> tuple[None, None]:
        """No model; its processor is not needed either."""
        return None, None

    def get_dataset_kwargs(self) -> dict[str, Any]:
        """Nothing more about data sets."""
        return {}

    def get_template(self, processor: Any) -> Template:
        """The template of these arguments."""
        return Template(self.max_length, self._strategy, self._is_multimodal)
