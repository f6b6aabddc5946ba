"""The families that read pictures, and what each backend makes of them.

results() is what the tests of this folder hold true, and what docs are made from: a row for
each family and backend.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

TRAINS = "trains, mask checked"
Backend = Literal["qlora", "swift"]


@dataclass(frozen=True)
class Result:
    """What a backend makes of a family. `outcome`: TRAINS, or the refusal; `test` holds it true,
    by pytest's node id; `often`: in the default run, else with the marker `full` alone."""

    family: str
    backend: Backend
    outcome: str
    test: str
    often: bool = True
    remark: str = ""


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
# With ms-swift in the default run; Qwen2.5-VL by way of the recipe that ships it.
OFTEN_WITH_SWIFT = {"llava", "qwen2_5_vl"}
NO_TYPE = "refused: this version of ms-swift has no type for it"
SMALL_BATCHES = "per_device_train_batch_size 1, unless all pictures are split alike"
_FOLDER = "tests/unit/child/families"


def results() -> Iterator[Result]:
    """A row for each family and backend, in the order of FAMILIES."""
    for family in FAMILIES:
        trained = f"{_FOLDER}/test_picture_families.py::test_the_family_trains[{family.name}]"
        yield Result(family.title, "qlora", TRAINS, trained)
        yield _with_swift(family)


def _with_swift(family: PictureFamily) -> Result:
    file = f"{_FOLDER}/test_picture_families_swift.py"
    if family.swift is None:
        test = f"{file}::test_a_family_without_a_type_is_refused"
        return Result(family.title, "swift", NO_TYPE, test, often=False)
    return Result(
        family.title,
        "swift",
        TRAINS,
        f"{file}::test_the_shipped_recipe_trains_a_tiny_model_of_its_family"
        if family.name == "qwen2_5_vl"
        else f"{file}::test_the_family_trains_with_ms_swift[{family.name}]",
        often=family.name in OFTEN_WITH_SWIFT,
        remark=SMALL_BATCHES if family.swift_batch == 1 else "",
    )
