"""The families that read pictures, and what each backend makes of them.

RESULTS is what the tests of this folder hold true, and what docs are made from:
a row for each family, backend and way in which its rows were tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TRAINS = "trains, mask checked"
Backend = Literal["qlora", "swift"]


@dataclass(frozen=True)
class PictureFamily:
    """One family. `name` is its model_type, `end` what closes a turn of the assistant and is
    learnt, `swift` its (model_type, template) of ms-swift 4.6; None: it has none."""

    name: str
    title: str
    end: str
    swift: tuple[str, str] | None
    takes_system: bool = True
    swift_batch: int = 2
    """Rows in a batch of ms-swift's. Idefics3: its template puts no pictures of different sizes
    into one."""


FAMILIES: Sequence[PictureFamily] = (
    PictureFamily("qwen2_vl", "Qwen2-VL", "<|im_end|>", ("qwen2_vl", "qwen2_vl")),
    PictureFamily("qwen2_5_vl", "Qwen2.5-VL", "<|im_end|>", ("qwen2_5_vl", "qwen2_5_vl")),
    PictureFamily("qwen3_vl", "Qwen3-VL", "<|im_end|>", ("qwen3_vl", "qwen3_vl")),
    PictureFamily("smolvlm", "SmolVLM2", "<end_of_utterance>", None),
    PictureFamily(
        "idefics3",
        "Idefics3, SmolVLM",
        "<end_of_utterance>",
        ("idefics3", "idefics3"),
        swift_batch=1,
    ),
    PictureFamily("gemma3", "Gemma 3", "<end_of_turn>", ("gemma3_vision", "gemma3_vision")),
    PictureFamily("llava", "LLaVA 1.5", "", ("llava1_5_hf", "llava1_5_hf")),
)
BY_NAME = {family.name: family for family in FAMILIES}
